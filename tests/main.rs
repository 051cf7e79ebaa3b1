//! One test binary: each further one would link DataFusion again.

mod cli;
mod golden_slt;
mod kafka;
mod oracle;
mod poison;
mod queries;
mod simulator;
mod support;
mod tidy;
mod torture;
