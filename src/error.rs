//! One error type. Each variant names who must act: the author of the SQL, the caller of the
//! command, the environment, the data, or us.

use std::fmt;

/// A position in a SQL file: 1-based line and column (in characters).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    pub line: u64,
    pub column: u64,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Everything that can stop windrow, by the one who can mend it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The SQL file: a statement, a name, an option. Exit code 2.
    #[error("{message}")]
    Sql {
        message: String,
        /// What to write instead; shown on a line of its own.
        hint: Option<String>,
        at: Option<At>,
    },
    /// The command line. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The environment: a broker, a topic, a file, a permission. Exit code 1.
    #[error("{message}")]
    Environment {
        message: String,
        hint: Option<String>,
    },
    /// A record that the table's policy does not allow to skip. Exit code 1.
    #[error("{0}")]
    Data(String),
    /// Told to stop before there was anything to stop. Exit code 0.
    #[error("{0}")]
    Stopped(String),
    /// A defect in windrow. Exit code 1.
    #[error("{0} (this is a bug in windrow: please report it with the SQL file)")]
    Bug(String),
}

/// What the text of an error about one record begins with.
pub const BAD_RECORD: &str = "bad record at ";

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn sql(message: impl Into<String>) -> Self {
        Error::Sql {
            message: message.into(),
            hint: None,
            at: None,
        }
    }

    pub fn env(message: impl Into<String>) -> Self {
        Error::Environment {
            message: message.into(),
            hint: None,
        }
    }

    pub fn bug(message: impl Into<String>) -> Self {
        Error::Bug(message.into())
    }

    /// Adds what to do next; replaces an earlier hint. No effect on variants without one.
    pub fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let Error::Sql { hint, .. } | Error::Environment { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// Adds the position unless the error already has one.
    pub fn or_at(mut self, position: At) -> Self {
        if let Error::Sql { at: at @ None, .. } = &mut self {
            *at = Some(position);
        }
        self
    }

    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Sql { hint, .. } | Error::Environment { hint, .. } => hint.as_deref(),
            Error::Data(text) if text.starts_with(BAD_RECORD) => {
                Some("'bad-records' = 'skip' or 'dead-letter' goes on without such records")
            }
            _ => None,
        }
    }

    /// The process's exit code: 2 for what the user typed, 1 for a query that failed, 0 for a stop
    /// that was asked for.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Sql { .. } | Error::Usage(_) => 2,
            Error::Stopped(_) => 0,
            _ => 1,
        }
    }
}

/// `"did you mean …?"` when one of `known` is close enough to `typed`.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let typed = typed.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&typed, &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= 1 + k.len().max(typed.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| format!("did you mean '{k}'?"))
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        Error::Bug(e.to_string())
    }
}
