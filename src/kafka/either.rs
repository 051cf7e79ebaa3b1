//! The direct client, until it meets what it does not speak (a broker before 2.3, message formats
//! before 0.11); then librdkafka, from there.

use super::client::KafkaReader;
use super::config::ClientConfig;
use super::direct::DirectReader;
use crate::error::Result;
use crate::source::{Assignment, Polled, ReadRequest, Reader};
use std::time::Duration;

pub struct EitherReader {
    reading: Reading,
    config: ClientConfig,
    bootstrap: String,
    request: ReadRequest,
}

enum Reading {
    Direct(Box<DirectReader>),
    Librdkafka(Box<KafkaReader>),
}

impl EitherReader {
    pub fn new(
        config: &ClientConfig,
        bootstrap: &str,
        partitions: &[Assignment],
        request: &ReadRequest,
    ) -> Result<Self> {
        let reader = DirectReader::new(config, partitions, request)?;
        Ok(Self {
            reading: Reading::Direct(Box::new(reader)),
            config: config.clone(),
            bootstrap: bootstrap.to_string(),
            request: request.clone(),
        })
    }
}

impl Reader for EitherReader {
    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        let direct = match &mut self.reading {
            Reading::Librdkafka(reader) => return reader.poll(timeout),
            Reading::Direct(reader) => reader,
        };
        match direct.poll(timeout) {
            Err(error) if direct.is_too_old() => {
                let left = direct.left();
                let reader = KafkaReader::new(&self.config, &self.bootstrap, &left, &self.request)?;
                self.reading = Reading::Librdkafka(Box::new(reader));
                Ok(Polled::Notice(format!("librdkafka reads on: {error}")))
            }
            polled => polled,
        }
    }

    fn add(&mut self, partitions: &[Assignment]) -> Result<()> {
        match &mut self.reading {
            Reading::Direct(reader) => reader.add(partitions),
            Reading::Librdkafka(reader) => reader.add(partitions),
        }
    }
}
