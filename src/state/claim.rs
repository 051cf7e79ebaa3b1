//! Two processes on one place without a lock: only the one that came last may go on.
//!
//! A process that starts takes the number behind the newest manifest, by creating an object under
//! the manifest's name that says who has it: a claim. Numbers follow one another without gaps,
//! so that is the name under which a process that is still at work would write its next
//! checkpoint. A store creates an object once, so one of the two succeeds. Either the newcomer does:
//! then the other cannot write a checkpoint any more, and ends before it publishes anything. Or
//! the other was faster, and the newcomer goes on from its checkpoint.
//!
//! Old manifests and claims are removed, so a process that has slept for long could find its
//! name free again. What was taken or written since has higher numbers, and the newest of them stays:
//! hence each manifest is followed by a look at the list, and one that is not the newest does not
//! count.

use super::checkpoints::Checkpoints;
use super::manifest::{Manifest, Unreadable, seal};
use super::names;
use crate::error::{Error, Result};
use std::io::ErrorKind;

/// Each is an attempt that another process was faster than.
const ATTEMPTS_MAX: usize = 20;

impl Checkpoints {
    /// Shuts out every other process that writes checkpoints here, unless the store does so by
    /// itself. `process`: what no other process has, like a random number. Call it before
    /// [`Checkpoints::load_in_force`].
    ///
    /// # Errors
    /// The store fails.
    pub fn claim(&mut self, process: &str) -> Result<()> {
        if self.store.is_exclusive() {
            return Ok(());
        }
        let bytes = claim(process);
        for _ in 0..ATTEMPTS_MAX {
            let manifests = self.numbers.last().max(self.claims.last());
            let number = self.highest.max(manifests.map_or(1, |newest| newest + 1));
            let name = names::manifest(number);
            match self.store.create(&name, &bytes) {
                Ok(()) => {
                    self.highest = number;
                    self.claims.push(number);
                    return self.check_store(&name);
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => self.refresh()?,
                Err(e) => return Err(self.failed("write", &name, &e)),
            }
        }
        Err(self.taken_over())
    }

    /// There are stores that do not know what is asked of them, and overwrite.
    fn check_store(&self, claimed: &str) -> Result<()> {
        match self.store.create(claimed, &claim("a second time")) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(self.failed("write", claimed, &e)),
            Ok(()) => Err(Error::env(format!(
                "{} cannot hold checkpoints: the store replaces objects that are there though it \
                 is asked not to (If-None-Match)",
                self.store.describe()
            ))
            .with_hint(
                "two processes could not be kept apart: use a store that knows conditional writes \
                 (a newer version may), or a local folder",
            )),
        }
    }

    /// Tells claims from checkpoints, where there may be some.
    pub(super) fn sort_out_claims(&mut self) -> Result<()> {
        if self.store.is_exclusive() {
            return Ok(());
        }
        let manifests: Vec<String> = self.numbers.iter().map(|n| names::manifest(*n)).collect();
        let wanted: Vec<&str> = manifests.iter().map(String::as_str).collect();
        let mut claims = Vec::new();
        for ((bytes, number), name) in (self.store.get_all(&wanted).into_iter())
            .zip(&self.numbers)
            .zip(&manifests)
        {
            match bytes {
                Ok(bytes) if Manifest::decode(&bytes) == Err(Unreadable::Claim) => {
                    claims.push(*number);
                }
                Ok(_) => {}
                // Removed since the list was made.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(self.failed("read", name, &e)),
            }
        }
        self.numbers.retain(|n| !claims.contains(n));
        self.claims = claims;
        Ok(())
    }

    /// After the manifest `number` was created: an error when another process has gone on since.
    pub(super) fn check_newest(&self, number: u64) -> Result<()> {
        if self.store.is_exclusive() {
            return Ok(());
        }
        let listed = self.list()?;
        let manifests = listed.iter().filter_map(|name| match names::parse(name) {
            Some((names::MANIFEST, number)) => Some(number),
            _ => None,
        });
        match manifests.max() {
            Some(newest) if newest > number => Err(self.taken_over()),
            _ => Ok(()),
        }
    }

    pub(super) fn taken_over(&self) -> Error {
        let place = self.store.describe();
        Error::env(format!(
            "another process has taken over the checkpoints in {place}"
        ))
        .with_hint(
            "the windrow that starts last goes on, the one before ends; if both are to run, give \
             each a place of its own",
        )
    }
}

fn claim(process: &str) -> Vec<u8> {
    let mut bytes = serde_json::json!({ "claimed_by": process })
        .to_string()
        .into_bytes();
    seal(&mut bytes);
    bytes
}
