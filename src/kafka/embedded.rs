//! A Kafka in this process: librdkafka's mock cluster, for the demo and quick tests. It keeps a
//! few megabytes of each partition, so it is no place for replays or measurements.

use crate::error::{Error, Result};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use std::net::TcpStream;

pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl EmbeddedBroker {
    pub fn start() -> Result<Self> {
        let cluster = MockCluster::new(1)
            .map_err(|e| Error::env(format!("cannot start the embedded broker: {e}")))?;
        let broker = Self { cluster };
        // Its thread often begins with a wait of a second in which it hears no request but those
        // of clients: one that says nothing wakes it. Should that fail, the second is lost.
        let _awake = TcpStream::connect(broker.bootstrap());
        Ok(broker)
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
