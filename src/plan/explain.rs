//! What a query does, stage by stage, for people.

use super::cut::Chain;
use super::errors::in_sql;
use super::leaf::{Leaf, LeafKind};
use super::query::{Body, QueryPlan, QuerySink};
use super::script::Job;
use super::shape::without_places;
use super::stages::Stage;
use crate::sink::OutputMode;
use crate::table::TableDef;
use crate::time::format_us;
use crate::watermark::FOREVER;
use crate::window::Assign;
use datafusion_physical_plan::displayable;
use std::fmt::Write;

/// The whole job as text.
pub fn job_text(job: &Job) -> String {
    let mut out = job.explained.join("\n");
    for source in &job.sources {
        let def = &source.def;
        let _ = writeln!(out, "source {} ({})", def.name, def.connector());
        let _ = writeln!(out, "  read     {}", place(def));
        let _ = writeln!(out, "  decode   {}", or_none(&source.decode.join(", ")));
        for (computed, field) in source.computed.iter().zip(
            source
                .schema
                .fields()
                .iter()
                .skip(source.decode.len() + source.metadata.len()),
        ) {
            let _ = writeln!(
                out,
                "  compute  {} = {}",
                field.name(),
                shown(&format!("{computed:?}"))
            );
        }
        match (&def.watermark, source.event_time) {
            (Some(w), Some(_)) => {
                let _ = match w.delay_us {
                    FOREVER => writeln!(out, "  no watermark: windows over {} stay open", w.column),
                    delay_us => writeln!(out, "  watermark {} - {}", w.column, duration(delay_us)),
                };
            }
            _ => {
                let _ = writeln!(out, "  watermark not needed");
            }
        }
        for query in job
            .queries
            .iter()
            .filter(|q| std::ptr::eq(&job.sources[q.sources[0]], source))
        {
            let sources = query
                .sources
                .iter()
                .map(|s| job.sources[*s].def.name.as_str());
            out.push_str(&query_text(query, &sources.collect::<Vec<_>>()));
        }
    }
    out
}

/// One query over `sources`, by their names, as text.
pub fn query_text(query: &QueryPlan, sources: &[&str]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} (line {})", query.name, query.at.line);
    if let [source] = sources {
        let _ = writeln!(out, "  from     {source}");
    }
    match &query.body {
        Body::Stateless(plan) => {
            chain_text(&mut out, &plan.chain);
            if let Some(limit) = plan.limit {
                let _ = writeln!(out, "  end      after {limit} rows");
            }
        }
        Body::Windowed(plan) => {
            for aggregate in &plan.aggregates {
                if sources.len() > 1 {
                    let _ = writeln!(out, "  from     {}", sources[aggregate.chain.stream]);
                }
                chain_text(&mut out, &aggregate.chain);
                let _ = writeln!(out, "  keep     {}", windows_text(&aggregate.assign));
                let _ = writeln!(out, "           {}", shown(&aggregate.text));
            }
            let above = displayable(plan.finish.as_ref()).indent(false).to_string();
            let bare = plan
                .finish
                .downcast_ref::<Leaf>()
                .is_some_and(|l| matches!(l.kind, LeafKind::Aggregate(_)));
            if !bare {
                for (i, line) in shown(&above).lines().enumerate() {
                    let _ = writeln!(
                        out,
                        "  {} {line}",
                        if i == 0 { "finish  " } else { "        " }
                    );
                }
            }
        }
    }
    let mode = match query.mode {
        OutputMode::Append => "append",
        OutputMode::Update => "update",
        OutputMode::Complete => "complete",
    };
    let sink = match &query.sink {
        QuerySink::Console => "standard output".to_string(),
        QuerySink::Table(def) => format!("{} ({})", def.name, place(def)),
    };
    let _ = writeln!(out, "  write    {sink}, mode {mode}");
    if let Some(late) = &query.late {
        let _ = writeln!(out, "  late     rows go to {}", late.def.name);
    }
    out
}

fn chain_text(out: &mut String, chain: &Chain) {
    let _ = writeln!(out, "  columns  {}", or_none(&chain.columns.join(", ")));
    for stage in &chain.stages {
        match stage {
            Stage::Filter { predicate, .. } => {
                let _ = writeln!(out, "  filter   {}", shown(&predicate.to_string()));
            }
            Stage::Project { exprs, .. } => {
                let list: Vec<String> = exprs.iter().map(|e| shown(&e.to_string())).collect();
                let _ = writeln!(out, "  project  {}", list.join(", "));
            }
            Stage::Unnest(elements) => {
                let _ = writeln!(out, "  unnest   {}", elements.name());
            }
            Stage::Lookup(lookup) => {
                let _ = writeln!(out, "  look up  {}", shown(&lookup.text()));
            }
        }
    }
}

/// An expression's text as far as it is in SQL's words.
fn shown(text: &str) -> String {
    in_sql(&without_places(text))
}

pub(super) fn windows_text(assign: &Assign) -> String {
    match *assign {
        Assign::Global => "all groups, for ever".into(),
        Assign::Fixed {
            size,
            slide,
            offset,
            pane,
        } => {
            let kind = if size == slide {
                format!("tumbling windows of {}", duration(size))
            } else {
                format!(
                    "windows of {} every {} (panes of {})",
                    duration(size),
                    duration(slide),
                    duration(pane)
                )
            };
            with_offset(kind, offset)
        }
        Assign::Cumulating { size, step, offset } => {
            let (size, step) = (duration(size), duration(step));
            with_offset(format!("windows that grow by {step} up to {size}"), offset)
        }
        Assign::Session { gap } => format!("sessions with a gap of {}", duration(gap)),
    }
}

fn with_offset(kind: String, offset: i64) -> String {
    if offset == 0 {
        kind
    } else {
        format!("{kind}, offset {}", duration(offset))
    }
}

fn duration(us: i64) -> String {
    for (unit, length) in [
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("min", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1000),
    ] {
        if us != 0 && us % length == 0 {
            return format!("{} {unit}", us / length);
        }
    }
    if us == 0 {
        "0 s".into()
    } else {
        format!("{us} us")
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "(none)" } else { text }
}

fn place(def: &TableDef) -> String {
    let option = |k: &str| def.options.get(k).unwrap_or_default().to_string();
    match def.connector() {
        "kafka" => {
            let topic = def
                .options
                .get("topic")
                .or(def.options.get("topic-pattern"))
                .unwrap_or_default();
            let start = def
                .options
                .get("scan.startup.mode")
                .map(|m| format!(", from {m}"))
                .unwrap_or_default();
            format!(
                "topic {topic} at {}{start}",
                option("properties.bootstrap.servers")
            )
        }
        "filesystem" => format!("{} files in {}", option("format"), option("path")),
        other => other.to_string(),
    }
}

/// A watermark for people.
pub fn watermark_text(us: i64) -> String {
    match us {
        crate::watermark::NONE => "none".into(),
        i64::MAX => "end".into(),
        us => format_us(us),
    }
}
