//! Error codes of the protocol, and what each means for a reader.

pub const OFFSET_OUT_OF_RANGE: i16 = 1;
pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

/// What to do about an error of one partition or topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Another broker leads, or none for the moment: ask who, and try again.
    Passing,
    /// The topic or partition is not known: it is gone, or the broker has just started.
    Unknown,
    OutOfRange,
    /// The user may not read it.
    Forbidden,
    /// The broker itself finds the data damaged.
    Corrupt,
    /// Trying again does not help.
    Final,
}

pub fn kind(code: i16) -> Kind {
    match code {
        OFFSET_OUT_OF_RANGE => Kind::OutOfRange,
        UNKNOWN_TOPIC_OR_PARTITION | 100 => Kind::Unknown,
        2 | 87 => Kind::Corrupt,
        29..=31 => Kind::Forbidden,
        17 | 35 | 42 | 76 => Kind::Final,
        _ => Kind::Passing,
    }
}

/// The protocol's name of a code.
pub fn name(code: i16) -> String {
    let name = match code {
        OFFSET_OUT_OF_RANGE => "OFFSET_OUT_OF_RANGE",
        2 => "CORRUPT_MESSAGE",
        UNKNOWN_TOPIC_OR_PARTITION => "UNKNOWN_TOPIC_OR_PARTITION",
        5 => "LEADER_NOT_AVAILABLE",
        6 => "NOT_LEADER_OR_FOLLOWER",
        7 => "REQUEST_TIMED_OUT",
        8 => "BROKER_NOT_AVAILABLE",
        9 => "REPLICA_NOT_AVAILABLE",
        17 => "INVALID_TOPIC_EXCEPTION",
        29 => "TOPIC_AUTHORIZATION_FAILED",
        30 => "GROUP_AUTHORIZATION_FAILED",
        31 => "CLUSTER_AUTHORIZATION_FAILED",
        33 => "UNSUPPORTED_SASL_MECHANISM",
        34 => "ILLEGAL_SASL_STATE",
        35 => "UNSUPPORTED_VERSION",
        42 => "INVALID_REQUEST",
        56 => "KAFKA_STORAGE_ERROR",
        58 => "SASL_AUTHENTICATION_FAILED",
        74 => "FENCED_LEADER_EPOCH",
        75 => "UNKNOWN_LEADER_EPOCH",
        76 => "UNSUPPORTED_COMPRESSION_TYPE",
        78 => "OFFSET_NOT_AVAILABLE",
        87 => "INVALID_RECORD",
        100 => "UNKNOWN_TOPIC_ID",
        103 => "INCONSISTENT_TOPIC_ID",
        _ => return format!("error code {code}"),
    };
    name.to_string()
}
