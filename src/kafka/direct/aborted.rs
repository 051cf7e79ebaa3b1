//! Records of aborted transactions, which `read_committed` does not deliver.

use super::fault::Reason;
use super::records::Header;

/// The aborted transactions within the batches of one partition of one response.
#[derive(Debug, Default)]
pub struct Aborted {
    /// Producer id and first offset; the first to come last.
    coming: Vec<(i64, i64)>,
    /// Producers whose aborted transaction is open at the batch that was looked at last.
    open: Vec<i64>,
}

impl Aborted {
    /// `list` is that of the response.
    pub fn new(mut list: Vec<(i64, i64)>) -> Self {
        list.sort_by_key(|(_, first_offset)| std::cmp::Reverse(*first_offset));
        Self {
            coming: list,
            open: Vec::new(),
        }
    }

    /// Whether the next batch belongs to an aborted transaction. Batches come in their order.
    /// `batch` is the whole batch.
    pub fn covers(&mut self, header: &Header, batch: &[u8]) -> Result<bool, Reason> {
        while let Some((producer, _)) = self
            .coming
            .pop_if(|(_, first_offset)| *first_offset <= header.last_offset())
        {
            self.open.push(producer);
        }
        if self.open.is_empty() || !header.is_transactional() {
            return Ok(false);
        }
        if header.is_control() {
            if header.is_abort(batch)? {
                self.open.retain(|producer| *producer != header.producer);
            }
            return Ok(false);
        }
        Ok(self.open.contains(&header.producer))
    }
}
