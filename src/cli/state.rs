//! `windrow state` and `windrow plan`: what a folder of checkpoints holds, and what a changed file
//! keeps of it.

use super::Failure;
use super::run::{FileArgs, FormatArg, plan, positioned, read};
use crate::encode::text::{counted, grouped};
use crate::error::Result;
use crate::plan::explain::watermark_text;
use crate::plan::{Settings, in_sql, shapes, state};
use crate::run::sinks::standard_output;
use crate::state::look::{self, Look};
use crate::state::{Shape, Snapshot, evolve};
use crate::time::format_us;
use crate::watermark::NONE;
use clap::Args;
use std::io::Write;

#[derive(Args)]
pub struct StateArgs {
    /// The folder of checkpoints, or its URL; a job that uses it may go on running.
    #[arg(value_name = "DIR")]
    pub folder: String,
    /// The checkpoint to look into [default: the newest].
    #[arg(long)]
    pub number: Option<u64>,
    /// A query over the open windows: each query of the job is a table.
    #[arg(long)]
    pub sql: Option<String>,
    /// How the result of --sql prints.
    #[arg(long, value_enum, default_value_t = FormatArg::Table)]
    pub format: FormatArg,
}

#[derive(Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// The folder of checkpoints that the file is to go on from, or its URL.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: String,
}

pub fn state(args: &StateArgs) -> Result<(), Failure> {
    let mut look = Look::at(&args.folder)?;
    let Some(sql) = &args.sql else {
        print(&overview(&mut look, args.number)?)?;
        return Ok(());
    };
    let snapshot = look.snapshot(args.number)?;
    let (schema, rows) = state::query(&look::tables(&snapshot)?, sql)?;
    let mut sink = standard_output(&schema, args.format.into(), Box::new(std::io::stdout()));
    for batch in rows {
        sink.write(0, &batch)?;
    }
    sink.commit(0)?;
    sink.close()?;
    Ok(())
}

fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(crate::sink::console::output_error)
}

fn overview(look: &mut Look, number: Option<u64>) -> Result<String> {
    let mut out = format!("job {}\n", look.job());
    for seen in look.seen()? {
        out += &match &seen.manifest {
            Ok((written_ms, bytes)) => format!(
                "checkpoint {}  {}  {} bytes\n",
                seen.number,
                format_us(written_ms * 1000),
                grouped(*bytes)
            ),
            Err(reason) => format!("checkpoint {}  damaged: {reason}\n", seen.number),
        };
    }
    let snapshot = look.snapshot(number)?;
    out += &format!("\ncheckpoint {}\n", snapshot.number);
    describe(&snapshot, &mut out);
    Ok(out)
}

fn describe(snapshot: &Snapshot, out: &mut String) {
    for source in &snapshot.sources {
        *out += &format!("source {}\n", source.name);
        for p in &source.partitions {
            let time = match p.max_us {
                NONE => "no event time yet".to_string(),
                us => format!("latest event time {}", format_us(us)),
            };
            *out += &format!(
                "  {}/{}  next offset {}, {time}\n",
                p.topic, p.partition, p.position
            );
        }
    }
    for query in &snapshot.queries {
        *out += &format!("query {}\n", query.name);
        if query.watermark != NONE {
            *out += &format!(
                "  final    windows up to {}\n",
                watermark_text(query.watermark)
            );
        }
        for aggregate in &query.aggregates {
            let rows: usize = aggregate.segments.iter().map(|s| s.batch.num_rows()).sum();
            let held = counted(aggregate.segments.len() as u64, "segment");
            *out += &format!(
                "  keep     {}: {held}, {} groups\n",
                aggregate.shape.window,
                grouped(rows as u64)
            );
            *out += &format!("           {}\n", functions(&aggregate.shape));
        }
    }
}

fn functions(shape: &Shape) -> String {
    let functions: Vec<&str> = shape.functions.iter().map(|f| f.text.as_str()).collect();
    in_sql(&format!(
        "{} by {}",
        functions.join(", "),
        shape.keys.join(", ")
    ))
}

pub fn compare(args: &PlanArgs) -> Result<(), Failure> {
    let source = read(&args.file.file)?;
    let result = plan(&source, &args.file, &Settings::default()).and_then(|job| {
        let snapshot = Look::at(&args.checkpoint)?.snapshot(None)?;
        let mut out = format!("from checkpoint {}\n", snapshot.number);
        let shapes = shapes(&job.queries, &job.sources);
        let sources = job.sources.iter().map(|s| s.def.name.as_str());
        let changes = evolve::compare(&snapshot, &shapes, sources);
        for change in &changes {
            out += &format!("  {change}\n");
        }
        out += match changes.iter().any(evolve::Change::loses) {
            true => "a run needs --accept-changes to go on\n",
            false => "a run goes on with all of its state\n",
        };
        print(&out)
    });
    positioned(result, &args.file.file, &source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::FunctionShape;
    use std::collections::BTreeMap;

    /// They were said to be of a type that SQL does not have.
    #[test]
    fn keys_have_the_types_of_sql() {
        let function = FunctionShape {
            text: "count(1)".into(),
            width: 1,
        };
        let shape = Shape {
            window: "all groups, for ever".into(),
            input: Vec::new(),
            keys: vec!["page: Utf8View".into(), "n: Int32".into()],
            functions: vec![function],
            names: BTreeMap::new(),
        };
        assert_eq!(functions(&shape), "count(1) by page: STRING, n: INT");
    }
}
