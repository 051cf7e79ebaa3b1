//! Readers that end with an error.

use super::*;

/// A partition that is handed to a reader although nobody has asked the broker for it.
pub fn unasked(topic: &str) -> Assignment {
    Assignment {
        id: 0,
        topic: topic.into(),
        topic_id: None,
        partition: 0,
        start: 0,
        end: None,
        max_us: windrow::watermark::NONE,
    }
}

/// What the reader comes to that is neither a record nor nothing: a notice or an error.
pub fn outcome(reader: &mut dyn Reader) -> Result<String> {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < PATIENCE, "nothing is told");
        match reader.poll(Duration::from_millis(100))? {
            Polled::Notice(text) => return Ok(text),
            Polled::Idle | Polled::Chunk(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The error that the reader ends with, whatever it delivers and tells before.
pub fn ends_with(reader: &mut dyn Reader) -> Error {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < PATIENCE, "no error");
        if let Err(error) = outcome(reader) {
            return error;
        }
    }
}
