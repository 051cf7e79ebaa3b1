//! The reader that the engine is given: one of the two clients, and what makes it go over to another
//! reader. The direct client may meet what it does not speak (a broker before 2.3, message formats
//! before 0.11): then librdkafka goes on from there. Either may find that retention has removed
//! what it was to read: where that is allowed, reading goes on at what is left.

use super::client::KafkaReader;
use super::config::ClientConfig;
use super::direct::DirectReader;
use super::metadata::MetadataClient;
use crate::error::{Error, Result};
use crate::source::{Assignment, Polled, ReadRequest, Reader};
use rdkafka::consumer::Consumer;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long a broker may take to say where a log begins.
const REQUEST: Duration = Duration::from_secs(3);

pub struct EitherReader {
    reading: Reading,
    wanted: Wanted,
    notices: VecDeque<String>,
}

/// What readers are made of, and how far they may depart from it.
pub struct Wanted {
    pub config: ClientConfig,
    pub bootstrap: String,
    pub request: ReadRequest,
    /// librdkafka reads what the direct client does not.
    pub either: bool,
    /// Records that are lost are told and left out; this client knows where the logs begin.
    pub lossy: Option<Arc<MetadataClient>>,
}

enum Reading {
    Direct(Box<DirectReader>),
    Librdkafka(Box<KafkaReader>),
}

impl Reading {
    fn reader(&mut self) -> &mut dyn Reader {
        match self {
            Reading::Direct(reader) => reader.as_mut(),
            Reading::Librdkafka(reader) => reader.as_mut(),
        }
    }

    fn is_too_old(&self) -> bool {
        matches!(self, Reading::Direct(reader) if reader.is_too_old())
    }

    fn is_overtaken(&self) -> bool {
        match self {
            Reading::Direct(reader) => reader.is_overtaken(),
            Reading::Librdkafka(reader) => reader.is_overtaken(),
        }
    }

    fn left(&self) -> Vec<Assignment> {
        match self {
            Reading::Direct(reader) => reader.left(),
            Reading::Librdkafka(reader) => reader.left(),
        }
    }
}

impl Wanted {
    fn reading(&self, direct: bool, partitions: &[Assignment]) -> Result<Reading> {
        Ok(match direct {
            true => {
                let reader = DirectReader::new(&self.config, partitions, &self.request)?;
                Reading::Direct(Box::new(reader))
            }
            false => {
                let (config, bootstrap) = (&self.config, &self.bootstrap);
                let reader = KafkaReader::new(config, bootstrap, partitions, &self.request)?;
                Reading::Librdkafka(Box::new(reader))
            }
        })
    }
}

impl EitherReader {
    pub fn new(wanted: Wanted, direct: bool, partitions: &[Assignment]) -> Result<Self> {
        Ok(Self {
            reading: wanted.reading(direct, partitions)?,
            wanted,
            notices: VecDeque::new(),
        })
    }

    /// Goes on where the logs begin by now; `error` where nothing of them is lost.
    fn skip(&mut self, error: Error) -> Result<()> {
        let Some(client) = &self.wanted.lossy else {
            return Err(error);
        };
        let mut left = self.reading.left();
        for a in &mut left {
            let watermarks = client.fetch_watermarks(&a.topic, a.partition, REQUEST);
            // One whose broker is away for now is read on from where it stands.
            let Ok((low, _)) = watermarks else {
                continue;
            };
            if a.start < low {
                let (lost, place) = (low - a.start, format!("{}/{}", a.topic, a.partition));
                self.notices.push_back(format!(
                    "{lost} offsets of {place} are lost: reading stood at {}, and retention has removed what is before {low}",
                    a.start
                ));
                a.start = low;
            }
        }
        if self.notices.is_empty() {
            return Err(error);
        }
        let direct = matches!(self.reading, Reading::Direct(_));
        self.reading = self.wanted.reading(direct, &left)?;
        Ok(())
    }
}

impl Reader for EitherReader {
    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        if let Some(notice) = self.notices.pop_front() {
            return Ok(Polled::Notice(notice));
        }
        match self.reading.reader().poll(timeout) {
            Err(error) if self.wanted.either && self.reading.is_too_old() => {
                self.reading = self.wanted.reading(false, &self.reading.left())?;
                Ok(Polled::Notice(format!("librdkafka reads on: {error}")))
            }
            Err(error) if self.reading.is_overtaken() => {
                self.skip(error)?;
                Ok(Polled::Idle)
            }
            polled => polled,
        }
    }

    fn add(&mut self, partitions: &[Assignment]) -> Result<()> {
        self.reading.reader().add(partitions)
    }
}
