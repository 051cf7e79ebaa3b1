//! Everything that speaks to Kafka, and the only place that names rdkafka: the source and its
//! two readers, the sink with its producer and its transactions, the admin calls of the command
//! line, the embedded broker.

pub mod admin;
pub mod client;
pub mod config;
pub mod direct;
mod either;
pub mod embedded;
mod faults;
mod metadata;
pub mod producer;
pub mod sink;
pub mod source;
mod topic_ids;
pub mod transaction;
