//! What ends a query that reads Kafka, in the same words whichever client finds it. A place is a
//! partition with an offset, e.g. `clicks/3 offset 42`.

use super::config::ClientConfig;
use crate::error::Error;
use std::fmt::Display;

pub(super) fn out_of_range(place: &str, text: &str) -> Error {
    Error::env(format!("{place} is not in the log any more: {text}"))
        .with_hint("retention has overtaken the query; 'scan.fail-on-data-loss' = 'false' goes on with what is left, and without a checkpoint so does 'scan.startup.mode' = 'earliest-offset'")
}

/// The broker does not let the client in.
pub(super) fn refused(bootstrap: &str, reason: &str) -> Error {
    Error::env(format!("Kafka at {bootstrap} refuses: {reason}"))
        .with_hint("check properties.security.protocol and properties.sasl.*")
}

/// `text` is what the broker says, if it says anything.
pub(super) fn gone(place: &str, text: Option<&str>) -> Error {
    let text = text.map(|t| format!(": {t}")).unwrap_or_default();
    Error::env(format!("{place} does not exist any more{text}")).with_hint("was the topic deleted?")
}

/// Whose rights they are, for messages; by the certificate alone we do not know the name.
pub(super) fn who(config: &ClientConfig) -> String {
    match config.get("sasl.username") {
        Some(name) => format!("user '{name}'"),
        None => "the user".into(),
    }
}

pub(super) fn forbidden(who: &str, topic: &str, place: &str, text: &str) -> Error {
    Error::env(format!("not allowed to read {place}: {text}")).with_hint(format!(
        "{who} needs the right (ACL) Read on topic '{topic}'"
    ))
}

/// Whether there is such a topic is not for this user to know.
pub(super) fn hidden(who: &str, topic: &str, bootstrap: &str, rights: &str) -> Error {
    Error::env(format!("not allowed to see topic '{topic}' at {bootstrap}")).with_hint(format!(
        "{who} needs the rights (ACLs) {rights} on topic '{topic}'; whether it exists Kafka does not say"
    ))
}

pub(super) fn corrupt(place: &str, text: impl Display) -> Error {
    Error::env(format!("corrupt data at {place}: {text}"))
}

/// The topic of that name is not the one that was read: its offsets mean other records.
pub(super) fn recreated(topic: &str, place: &str) -> Error {
    Error::env(format!(
        "topic {topic} was deleted and created again while it was read; {place} is of the topic before"
    ))
    .with_hint("nothing can be gone on with: start again, with a new checkpoint folder if there is one, and the new topic is read by 'scan.startup.mode'")
}

/// The same, found when a run goes on from a checkpoint.
pub(super) fn recreated_since(topic: &str, place: &str) -> Error {
    Error::env(format!(
        "topic {topic} was deleted and created again since the checkpoint, which stands at {place} of the topic before"
    ))
    .with_hint("start with a new checkpoint folder: then the new topic is read by 'scan.startup.mode'")
}
