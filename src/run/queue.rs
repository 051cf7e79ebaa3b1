//! A queue bounded in bytes, from many senders to one receiver.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The other side is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

/// What [`Receiver::receive`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    Item(T),
    TimedOut,
    /// Every sender is gone and nothing is left.
    Ended,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    senders: usize,
    receiver: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Signalled when there is room, or the receiver is gone.
    room: Condvar,
    /// Signalled when there is an item, or the last sender is gone.
    items: Condvar,
    bytes_max: usize,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic elsewhere never leaves the state half changed: each change is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Sender<T>(Arc<Shared<T>>);
pub struct Receiver<T>(Arc<Shared<T>>);

/// A queue of at most `bytes_max` bytes; a single larger item passes when the queue is empty.
pub fn queue<T>(bytes_max: usize) -> (Sender<T>, Receiver<T>) {
    let state = State {
        items: VecDeque::new(),
        bytes: 0,
        senders: 1,
        receiver: true,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        room: Condvar::new(),
        items: Condvar::new(),
        bytes_max,
    });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    /// Waits for room.
    pub fn send(&self, item: T, bytes: usize) -> Result<(), Closed> {
        let mut state = self.0.lock();
        while state.receiver && state.bytes > 0 && state.bytes + bytes > self.0.bytes_max {
            state = self
                .0
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if !state.receiver {
            return Err(Closed);
        }
        state.bytes += bytes;
        state.items.push_back((item, bytes));
        self.0.items.notify_one();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.lock().senders -= 1;
        self.0.items.notify_one();
    }
}

impl<T> Receiver<T> {
    /// The next item, or after `timeout` none.
    pub fn receive(&self, timeout: Duration) -> Received<T> {
        let deadline = Instant::now() + timeout;
        let mut state = self.0.lock();
        loop {
            if let Some((item, bytes)) = state.items.pop_front() {
                state.bytes -= bytes;
                self.0.room.notify_all();
                return Received::Item(item);
            }
            if state.senders == 0 {
                return Received::Ended;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Received::TimedOut;
            }
            state = self
                .0
                .items
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.receiver = false;
        state.items.clear();
        self.0.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn rows_in_the_queue_survive_the_senders_end() {
        // The story of a rival's bug: rows in the buffer were dropped at shutdown.
        let (sender, receiver) = queue(100);
        sender.send(1, 60).unwrap();
        sender.send(2, 40).unwrap();
        drop(sender);
        assert_eq!(receiver.receive(LONG), Received::Item(1));
        assert_eq!(receiver.receive(LONG), Received::Item(2));
        assert_eq!(receiver.receive(LONG), Received::Ended);
    }

    #[test]
    fn a_full_queue_lets_go_when_the_receiver_dies() {
        // The story of a rival's bug: shutdown deadlocked on a full channel.
        let (sender, receiver) = queue(10);
        sender.send(1, 10).unwrap();
        let blocked = std::thread::spawn(move || sender.send(2, 10));
        drop(receiver);
        assert_eq!(blocked.join().unwrap(), Err(Closed));
    }

    #[test]
    fn an_item_larger_than_the_queue_passes_alone() {
        let (sender, receiver) = queue(10);
        sender.send(1, 1000).unwrap();
        assert_eq!(receiver.receive(LONG), Received::Item(1));
        assert_eq!(receiver.receive(Duration::ZERO), Received::TimedOut);
    }
}
