//! A run with checkpoints: its folder, the Kafka transaction if it has one, and what to go on from.

use super::checkpoint::{Checkpointer, Decision};
use super::memory;
use super::recovery::Recovery;
use crate::error::Result;
use crate::kafka::config::producer_properties;
use crate::kafka::transaction::{GroupOffsets, Transaction};
use crate::plan::{QueryPlan, QuerySink, Settings, SourcePlan};
use crate::state::Checkpoints;
use crate::state::spill::SpillFile;
use crate::state::{PartitionSnapshot, Snapshot, random_id, store};
use crate::table::TableDef;
use std::sync::Arc;
use std::time::Duration;

/// Default of `execution.checkpointing.interval`.
const INTERVAL: Duration = Duration::from_secs(10);
/// Default of `state.checkpoints.num-retained`.
const RETAINED: usize = 3;
/// A transaction stays open from one checkpoint to the next: so many intervals at most.
const TRANSACTION_INTERVALS: u32 = 10;

pub(super) struct Durable {
    /// Taken by the thread that makes checkpoints.
    pub checkpointer: Option<Checkpointer>,
    pub interval: Duration,
    /// The interval is the default.
    pub sooner: bool,
    pub job: String,
    pub transaction: Option<Arc<Transaction>>,
    pub recovery: Recovery,
}

/// The transaction, and which source's offsets go into it.
struct KafkaDecision {
    transaction: Arc<Transaction>,
    /// By source: the consumer group, if the source is on the transaction's cluster.
    groups: Vec<Option<String>>,
}

impl Decision for KafkaDecision {
    fn committed(&self) -> Result<Option<u64>> {
        self.transaction.committed()
    }

    fn commit(&self, checkpoint: &Snapshot) -> Result<Vec<bool>> {
        let mut offsets: Vec<GroupOffsets> = Vec::new();
        for (source, group) in checkpoint.sources.iter().zip(&self.groups) {
            let Some(group) = group else { continue };
            let of = |p: &PartitionSnapshot| (p.topic.clone(), p.partition, p.position);
            offsets.push(GroupOffsets {
                group: group.clone(),
                positions: source.partitions.iter().map(of).collect(),
            });
        }
        // An epoch without rows commits nothing, offsets neither.
        let committed = self.transaction.commit(checkpoint.number, &offsets)?;
        Ok((self.groups.iter())
            .map(|g| committed && g.is_some())
            .collect())
    }

    fn abort(&self) {
        self.transaction.abort();
    }
}

impl Durable {
    /// `None` without a folder for checkpoints.
    pub fn open(
        settings: &Settings,
        sources: &[Arc<SourcePlan>],
        queries: &[Arc<QueryPlan>],
        wait: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Option<Self>> {
        let Some(folder) = &settings.checkpoint_dir else {
            return Ok(None);
        };
        let store = store::open(folder, &settings.keys, wait)?;
        let retained = settings.checkpoints_retained.unwrap_or(RETAINED);
        let mut checkpoints = Checkpoints::open(store, retained, &random_id())?;
        checkpoints.claim(&random_id())?;
        // The quarter of the budget that the merges will have.
        let spill = SpillFile::new(std::env::temp_dir(), "loaded");
        checkpoints.limit(memory::budget(settings) / 4, Box::new(spill));
        let job = checkpoints.job().to_string();
        let interval = settings.checkpoint_interval.unwrap_or(INTERVAL);
        let transaction = open_transaction(queries, &job, interval, wait)?;
        let decision = transaction.as_ref().map(|transaction| {
            Arc::new(KafkaDecision {
                groups: (sources
                    .iter()
                    .map(|s| group(&s.def, transaction.bootstrap())))
                .collect(),
                transaction: transaction.clone(),
            }) as Arc<dyn Decision>
        });
        let recovery = Recovery::load(
            &mut checkpoints,
            decision.as_ref(),
            sources,
            queries,
            settings.accept_changes,
        )?;
        if recovery.number > 0 {
            tracing::info!("going on from checkpoint {} in {folder}", recovery.number);
        }
        let names = sources.iter().map(|s| s.def.name.clone()).collect();
        let of = queries.iter().map(|q| q.sources.clone()).collect();
        Ok(Some(Self {
            checkpointer: Some(Checkpointer::new(checkpoints, decision, names, of)),
            interval,
            sooner: settings.checkpoint_interval.is_none(),
            job,
            transaction,
            recovery,
        }))
    }

    /// Where the source of this name was left; `None` when there is no checkpoint, or it does not
    /// know the source.
    pub fn positions(&self, source: &str) -> Option<&[PartitionSnapshot]> {
        self.recovery.positions(source)
    }
}

/// The consumer group of a source whose offsets can go into a transaction on `bootstrap`.
fn group(def: &TableDef, bootstrap: &str) -> Option<String> {
    let here = def.options.get("properties.bootstrap.servers") == Some(bootstrap);
    let group = def.options.get("properties.group.id")?;
    (here && def.connector() == "kafka").then(|| group.to_string())
}

fn open_transaction(
    queries: &[Arc<QueryPlan>],
    job: &str,
    interval: Duration,
    wait: &mut dyn FnMut(&str) -> bool,
) -> Result<Option<Arc<Transaction>>> {
    let sinks = queries.iter().flat_map(|q| {
        let table = match &q.sink {
            QuerySink::Table(def) => Some(def.as_ref()),
            QuerySink::Console => None,
        };
        table
            .into_iter()
            .chain(q.late.as_ref().map(|late| &late.def))
    });
    let wanted: Vec<&TableDef> = sinks
        .filter(|def| def.connector() == "kafka" && crate::sink::is_exactly_once(def))
        .collect();
    let Some(first) = wanted.first() else {
        return Ok(None);
    };
    for def in &wanted {
        for key in [
            "properties.bootstrap.servers",
            "sink.transactional-id-prefix",
        ] {
            if def.options.get(key) != first.options.get(key) {
                let text = format!(
                    "the exactly-once sinks of a file share one transaction, and '{}' has another value",
                    first.name
                );
                return Err(def.options.invalid(key, text));
            }
        }
    }
    let prefix = (first.options)
        .get("sink.transactional-id-prefix")
        .unwrap_or("windrow");
    let transaction = Transaction::open(
        producer_properties(&first.options),
        &format!("{prefix}-{job}"),
        first.options.get("topic").unwrap_or_default(),
        interval * TRANSACTION_INTERVALS,
        wait,
    )?;
    Ok(Some(Arc::new(transaction)))
}
