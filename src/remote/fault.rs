//! What a store answers when it does not do what it was asked.

use crate::error::Error;
use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

/// An error of a store, in words of its own where it has some.
#[derive(Debug)]
pub(super) struct Fault {
    kind: ErrorKind,
    reason: String,
    /// Repeated so long.
    after: Option<Duration>,
    hint: Option<String>,
}

/// What to do about an error of this module.
pub fn hint(e: &io::Error) -> Option<&str> {
    let fault = e.get_ref()?.downcast_ref::<Fault>()?;
    fault.hint.as_deref()
}

/// An error of the local disk, on its way through the store's error type.
pub(super) fn of_disk(e: io::Error) -> StoreError {
    let source = Box::new(e);
    StoreError::Generic {
        store: DISK,
        source,
    }
}

const DISK: &str = "disk";

/// Where the crate looks for credentials when it has been given none.
const METADATA: [&str; 3] = ["latest/api/token", "latest/meta-data", "computeMetadata"];

/// Whether trying again may help: the store is away, overloaded or has lost its answer.
pub(super) fn is_passing(e: &StoreError) -> bool {
    if matches!(e, StoreError::Generic { store: DISK, .. }) {
        return false;
    }
    let text = chain(e).map(ToString::to_string).collect::<String>();
    if METADATA.iter().any(|path| text.contains(path)) {
        return false;
    }
    // An upload in parts is over already: the answer to its end was lost, and the end asked for again.
    if text.contains("NoSuchUpload") {
        return true;
    }
    match status(&text) {
        // 501: it does not know what was asked, and will not learn it.
        Some(status) => matches!(status, 408 | 429 | 500 | 502..),
        None => {
            let http = chain(e).find_map(|e| e.downcast_ref::<HttpError>());
            // A body that was cut off is reported as one that cannot be decoded.
            http.is_some_and(|e| !is_certificate(&text) && e.kind() != HttpErrorKind::Unknown)
        }
    }
}

fn is_certificate(text: &str) -> bool {
    text.contains("invalid peer certificate")
}

fn chain<'a>(
    e: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(e), |&e| e.source())
}

/// The HTTP status in the crate's text; its type is private there.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// What stands in the XML element `name` of the store's answer.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0)
}

impl Fault {
    pub fn new(url: &str, after: Duration, e: &StoreError) -> Self {
        let texts: Vec<String> = chain(e).map(ToString::to_string).collect();
        let text = texts.join(": ");
        let code = element(&text, "Code");
        let no_bucket = matches!(code, Some("NoSuchBucket" | "ContainerNotFound"));
        let status = status(&text);
        let kind = match (e, status) {
            (StoreError::NotFound { .. }, _) if !no_bucket => ErrorKind::NotFound,
            (StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }, _) => {
                ErrorKind::AlreadyExists
            }
            (StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }, _)
            | (_, Some(401 | 403)) => ErrorKind::PermissionDenied,
            _ if matches!(code, Some("ExpiredToken" | "InvalidToken")) => {
                ErrorKind::PermissionDenied
            }
            _ => ErrorKind::Other,
        };
        let reason = match (code, element(&text, "Message")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_string(),
            // The innermost cause is what happened; what is around it says where, as the URL does.
            _ => match status {
                Some(_) => texts.iter().find(|t| t.contains("status code")).cloned(),
                None => texts.last().cloned(),
            }
            .unwrap_or_default(),
        };
        let no_credentials = METADATA.iter().any(|path| text.contains(path));
        let hint = if no_credentials {
            Some(format!("there are no credentials; {}", credentials(url)))
        } else if no_bucket {
            Some("windrow makes no buckets: create it, or correct the URL".to_string())
        } else if kind == ErrorKind::PermissionDenied {
            Some(credentials(url))
        } else if text.contains("without LOCATION") || matches!(status, Some(301 | 307)) {
            Some("the bucket is in another region: set AWS_REGION, or SET 's3.region'".to_string())
        } else if is_certificate(&text) {
            Some("the store's certificate must be one that this machine trusts".to_string())
        } else if is_passing(e) {
            Some(format!(
                "see whether the store is up and its address right{}; what was committed is safe: \
                 start again when it answers",
                endpoint(url)
            ))
        } else {
            None
        };
        Self {
            kind,
            reason: match no_credentials {
                true => format!("no credentials: {reason}"),
                false => reason,
            },
            after: is_passing(e).then_some(after),
            hint,
        }
    }

    /// Why, in a line.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub fn into_error(self, what: &str) -> Error {
        let error = Error::env(format!("{what}: {self}"));
        match self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

fn credentials(url: &str) -> String {
    match url.split_once("://").map_or("", |(scheme, _)| scheme) {
        "s3" | "s3a" => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or SET 's3.access-key' and \
             's3.secret-key', of somebody who may list, read, write and delete there"
        }
        "gs" => {
            "set GOOGLE_SERVICE_ACCOUNT to the file with the key of somebody who may list, read, \
             write and delete there"
        }
        _ => {
            "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or another way to sign \
             in) of somebody who may list, read, write and delete there"
        }
    }
    .to_string()
}

fn endpoint(url: &str) -> &'static str {
    match url.starts_with("s3") {
        true => " (AWS_ENDPOINT_URL, or SET 's3.endpoint')",
        false => "",
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        match self.after {
            Some(after) if after.as_secs() > 0 => {
                write!(f, " (tried for {} seconds)", after.as_secs())
            }
            _ => Ok(()),
        }
    }
}

impl StdError for Fault {}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        io::Error::new(fault.kind, fault)
    }
}
