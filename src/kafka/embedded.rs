//! A Kafka in this process: librdkafka's mock cluster, for the demo and quick tests. It keeps a
//! few megabytes of each partition, so it is no place for replays or measurements.

use crate::error::{Error, Result};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl EmbeddedBroker {
    pub fn start() -> Result<Self> {
        let cluster = MockCluster::new(1)
            .map_err(|e| Error::env(format!("cannot start the embedded broker: {e}")))?;
        Ok(Self { cluster })
    }

    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.cluster
            .create_topic(name, partitions, 1)
            .map_err(|e| Error::env(format!("cannot create topic {name}: {e}")))
    }

    /// `host:port` for clients.
    pub fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}
