//! String columns without copies: views into the payload where the text stands there as it is.

use super::column::take_same_capacity;
use crate::source::Span;
use arrow::array::{ArrayRef, StringViewArray, make_view};
use arrow::buffer::{Buffer, NullBuffer};
use std::sync::Arc;

/// Views of a [`StringViewArray`] under construction.
///
/// A string of more than twelve bytes lies in buffer 0, the payload itself, or, where it had to
/// be unescaped, in buffers of our own. So an array with long strings keeps its payload alive.
#[derive(Debug, Default)]
pub(super) struct Strings {
    views: Vec<u128>,
    /// The payload of the batch, unless it is too long to be borrowed from.
    source: Option<Buffer>,
    /// Whether some view refers to `source`.
    borrowed: bool,
    /// Full buffers of our own, and the one that grows.
    full: Vec<Buffer>,
    own: Vec<u8>,
}

/// By length, which bytes of a view with its string in itself are used.
const SHORT: [[u64; 2]; 13] = {
    let mut masks = [[0; 2]; 13];
    let mut length = 0;
    while length <= 12 {
        let bits = ((1_u128 << (8 * length)) - 1) << 32 | 0xffff_ffff;
        masks[length] = [bits as u64, (bits >> 64) as u64];
        length += 1;
    }
    masks
};

/// The view of `length` bytes at `position` of buffer 0, as `make_view` has it but without a
/// branch per length. `None` unless there are sixteen bytes there, and the text.
#[inline(always)]
fn view(source: &[u8], position: usize, length: usize) -> Option<u128> {
    let (head, _) = source
        .get(position..)?
        .first_chunk::<16>()?
        .as_chunks::<8>();
    let (first, second) = (u64::from_le_bytes(head[0]), u64::from_le_bytes(head[1]));
    // Behind the length come the first four bytes, in either kind of view.
    let low = length as u64 | first << 32;
    let Some([low_mask, high_mask]) = SHORT.get(length) else {
        let has_text = length <= source.len() - position;
        return has_text.then_some((position as u128) << 96 | u128::from(low));
    };
    let high = first >> 32 | second << 32;
    Some(u128::from(high & high_mask) << 64 | u128::from(low & low_mask))
}

/// A buffer of our own is full at this size: well within Arrow's signed 32-bit offsets.
const OWN_BYTES: usize = 1 << 30;

impl Strings {
    /// Starts a batch. A payload in which signed 32-bit offsets do not reach every byte is
    /// copied from instead of borrowed.
    pub(super) fn begin(&mut self, source: &Buffer) {
        self.views.clear();
        self.full.clear();
        self.own.clear();
        self.borrowed = false;
        self.source = (source.len() <= i32::MAX as usize).then(|| source.clone());
    }

    /// Forgets all strings from `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        self.views.truncate(len);
    }

    /// Appends `text`: by reference when it is a part of the payload.
    #[inline]
    pub(super) fn push(&mut self, text: &str) {
        let source = self
            .source
            .as_ref()
            .map_or(&[][..], |source| source.as_slice());
        let position = (text.as_ptr() as usize).wrapping_sub(source.as_ptr() as usize);
        let view = match view(source, position, text.len()) {
            Some(view) => {
                self.borrowed |= text.len() > 12;
                view
            }
            None => self.other_view(text),
        };
        self.views.push(view);
    }

    /// Appends the texts at `spans` of `data`, the payload: all are UTF-8.
    pub(super) fn extend_texts(&mut self, data: &[u8], spans: &[Span]) {
        let source = self
            .source
            .as_ref()
            .map_or(&[][..], |source| source.as_slice());
        let before = self.views.len();
        // In place: what an iterator of `extend` is to remember goes through memory, text by text.
        self.views.resize(before + spans.len(), 0);
        let (mut longest, mut all) = (0, true);
        for (to, span) in self.views[before..].iter_mut().zip(spans) {
            let length = (span.end - span.start) as usize;
            longest = longest.max(length);
            match view(source, span.start as usize, length) {
                Some(view) => *to = view,
                None => all = false,
            }
        }
        self.borrowed |= longest > 12;
        if all {
            return;
        }
        // The payload ends soon, or cannot be borrowed from.
        self.views.truncate(before);
        for span in spans {
            let text = &data[span.start as usize..span.end as usize];
            self.push(std::str::from_utf8(text).unwrap_or_default());
        }
    }

    #[inline(never)]
    fn other_view(&mut self, text: &str) -> u128 {
        // A view of up to twelve bytes holds them itself and refers to no buffer.
        if text.len() <= 12 {
            return make_view(text.as_bytes(), 0, 0);
        }
        if self.own.len() + text.len() > OWN_BYTES && !self.own.is_empty() {
            self.full
                .push(Buffer::from_vec(std::mem::take(&mut self.own)));
        }
        let position = self.own.len() as u32;
        self.own.extend_from_slice(text.as_bytes());
        make_view(text.as_bytes(), 1 + self.full.len() as u32, position)
    }

    /// All strings as an array; the column is empty afterwards and no batch has begun.
    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let views = take_same_capacity(&mut self.views);
        let source = self
            .source
            .take()
            .filter(|_| self.borrowed)
            .unwrap_or_default();
        let own = Buffer::from_vec(std::mem::take(&mut self.own));
        let mut buffers = vec![source];
        buffers.append(&mut self.full);
        buffers.push(own);
        // SAFETY: every view was made by `push` from a `&str` or by `extend_texts` from text. It either holds the text itself
        // or refers to bytes of that same text: in `source`, within whose bounds the text was
        // found and which nobody can change while we hold it, or in a buffer of our own, to
        // which the text was appended at that position and which only grew since. `begin`
        // clears the views together with what they refer to. `nulls` is as long as the views:
        // `Scalar` appends to both or to none.
        Arc::new(unsafe { StringViewArray::new_unchecked(views.into(), buffers, nulls) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};

    const LONG: &str = "a text of more than twelve bytes";

    /// Pushes, and checks the array by Arrow's own full validation.
    fn array(source: &Buffer, texts: &[&str]) -> StringViewArray {
        let mut strings = Strings::default();
        strings.begin(source);
        texts.iter().for_each(|t| strings.push(t));
        let array = strings.finish(None);
        array.to_data().validate_full().unwrap();
        assert_eq!(
            array.as_string_view().iter().flatten().collect::<Vec<_>>(),
            texts
        );
        array.as_string_view().clone()
    }

    #[test]
    fn parts_of_the_payload_are_borrowed_and_others_copied() {
        let source = Buffer::from(LONG.as_bytes());
        let inside = std::str::from_utf8(&source).unwrap();
        let array = array(
            &source,
            &[inside, &inside[2..], &inside[..12], LONG, "", "short"],
        );
        assert_eq!(array.data_buffers()[0].as_ptr(), source.as_ptr());
        assert_eq!(array.data_buffers()[1].as_slice(), LONG.as_bytes());
    }

    #[test]
    fn short_strings_do_not_keep_the_payload_alive() {
        let source = Buffer::from(LONG.as_bytes());
        let array = array(&source, &[&std::str::from_utf8(&source).unwrap()[..12]]);
        assert!(array.data_buffers().iter().all(|b| b.is_empty()));
    }

    #[test]
    fn a_batch_does_not_see_the_one_before() {
        let source = Buffer::from(LONG.as_bytes());
        let mut strings = Strings::default();
        strings.begin(&source);
        strings.push(LONG);
        strings.begin(&Buffer::from(b"".as_slice()));
        strings.push("another text that is copied");
        strings.truncate(0);
        strings.push("the text that stays in the end");
        let array = strings.finish(None);
        array.to_data().validate_full().unwrap();
        assert_eq!(
            array.as_string_view().value(0),
            "the text that stays in the end"
        );
        assert_eq!(array.len(), 1);
    }
}
