//! What can be wrong with the records of a partition.

/// Why a batch cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("the record batch's CRC does not match")]
    Crc,
    #[error("the record batch cannot be read: {0}")]
    Corrupt(&'static str),
    #[error("the record batch has the unknown codec {0}")]
    Codec(i16),
    #[error("the record batch unpacks to more than {} MB", .0 >> 20)]
    TooLarge(usize),
    /// Message set version 0 or 1, as Kafka wrote before 0.11.
    #[error("the message format {0} of Kafka before 0.11 is not read by this client")]
    OldFormat(i8),
}

/// A batch that cannot be read, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The first offset of the batch, or that which was to be read next.
    pub offset: i64,
    pub reason: Reason,
}
