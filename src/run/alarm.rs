//! What a failure stops, and how it is told.

use crate::error::{Error, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Shared by the threads of a run: when one fails, all end, and the first failure is the run's.
#[derive(Debug, Clone, Default)]
pub(super) struct Alarm {
    /// Tells the workers to stop in order.
    pub halt: Arc<AtomicBool>,
    /// Something failed: there will be no further checkpoint.
    pub failed: Arc<AtomicBool>,
    first: Arc<Mutex<Option<Error>>>,
}

impl Alarm {
    /// Does a thread's work. `None`: it failed, or panicked, which all hear at once.
    pub fn watch<T>(&self, work: impl FnOnce() -> Result<T>) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(work));
        match result.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))) {
            Ok(done) => Some(done),
            Err(error) => {
                self.ring(error);
                None
            }
        }
    }

    /// What a thread has done; a panic outside its work counts as a failure, too.
    pub fn joined<T>(&self, thread: std::thread::Result<Option<T>>) -> Option<T> {
        thread.unwrap_or_else(|panic| {
            self.ring(panicked(panic.as_ref()));
            None
        })
    }

    fn ring(&self, error: Error) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        self.failed.store(true, Relaxed);
        self.halt.store(true, Relaxed);
    }

    /// What failed first.
    pub fn error(&self) -> Option<Error> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone()
    }
}

/// A panic as an error; its place stands in what Rust has printed.
fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<String>()
        .cloned()
        .or(panic.downcast_ref::<&str>().map(|s| s.to_string()));
    Error::bug(format!("a thread panicked: {}", text.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A panic of one thread ended nothing: the others waited for it for ever.
    #[test]
    fn a_panic_is_a_failure_and_the_first_failure_counts() {
        let alarm = Alarm::default();
        assert_eq!(alarm.watch(|| Ok(1)), Some(1));
        assert!(!alarm.halt.load(Relaxed) && alarm.error().is_none());
        assert_eq!(alarm.watch(|| -> Result<()> { panic!("row {}", 3) }), None);
        assert!(alarm.halt.load(Relaxed) && alarm.failed.load(Relaxed));
        assert_eq!(
            alarm.watch(|| -> Result<()> { Err(Error::env("later")) }),
            None
        );
        let told = alarm.error().unwrap().to_string();
        assert!(told.starts_with("a thread panicked: row 3"), "{told}");
    }
}
