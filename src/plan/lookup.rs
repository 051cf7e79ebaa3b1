//! A join of the stream with a table that fits in memory and was loaded at the start.

use super::errors::internal;
use super::stages::{Flow, evaluate, origin_of};
use crate::batches::with_rows;
use crate::error::{Error, Result};
use arrow::array::{
    Array, ArrayBuilder, ArrayRef, AsArray, BooleanArray, UInt32Array, UInt32Builder,
};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion_common::{JoinSide, JoinType, NullEquality};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::displayable;
use datafusion_physical_plan::joins::HashJoinExec;
use datafusion_physical_plan::joins::utils::JoinFilter;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// What becomes of a row of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A row for each match.
    Inner,
    /// The same, and NULLs for what has no match.
    Outer,
    /// The row itself, if it has a match (`IN`, `EXISTS`).
    Semi,
    /// The row and whether it has one (`IN` and `EXISTS` between ORs).
    Mark,
    /// If it has none (`NOT EXISTS`). `null_aware`: `NOT IN`, which is not true where a NULL is compared.
    Anti { null_aware: bool },
}

/// A join that gives no rows for those of the table which the stream does not name.
#[derive(Debug)]
pub struct Lookup {
    /// The plan of the table's side, to be run once.
    pub table: Arc<dyn ExecutionPlan>,
    table_keys: Vec<Arc<dyn PhysicalExpr>>,
    stream_keys: Vec<Arc<dyn PhysicalExpr>>,
    stream_is_left: bool,
    kind: Kind,
    filter: Option<JoinFilter>,
    /// Of left columns, then right columns; of the stream's alone where the table only decides.
    joined: SchemaRef,
    projection: Option<Vec<usize>>,
    /// NULL equals NULL (`IS NOT DISTINCT FROM`); else it equals nothing.
    nulls_equal: bool,
    built: OnceLock<Built>,
}

#[derive(Debug)]
struct Built {
    rows: RecordBatch,
    converter: RowConverter,
    /// From key to the table's rows.
    index: HashMap<Box<[u8]>, Vec<u32>>,
    /// Some row's key is NULL.
    has_null: bool,
}

impl Lookup {
    /// From a hash join of which one side is the stream.
    pub fn try_new(join: &HashJoinExec, stream_is_left: bool) -> Result<Self> {
        let null_aware = join.null_aware;
        let kind = match (join.join_type(), stream_is_left) {
            (JoinType::Inner, _) => Kind::Inner,
            (JoinType::Left, true) | (JoinType::Right, false) => Kind::Outer,
            (JoinType::LeftSemi, true) | (JoinType::RightSemi, false) => Kind::Semi,
            (JoinType::LeftMark, true) | (JoinType::RightMark, false) => Kind::Mark,
            (JoinType::LeftAnti, true) | (JoinType::RightAnti, false) => Kind::Anti { null_aware },
            (other, _) => {
                return Err(Error::sql(format!(
                    "a {other} join of a stream with a table is not supported"
                ))
                .with_hint(
                    "INNER JOIN, LEFT JOIN with the stream on the left, IN and EXISTS work",
                ));
            }
        };
        let (stream_keys, table_keys) = join
            .on()
            .iter()
            .map(|(l, r)| {
                if stream_is_left {
                    (l.clone(), r.clone())
                } else {
                    (r.clone(), l.clone())
                }
            })
            .unzip();
        Ok(Self {
            table: if stream_is_left {
                join.right().clone()
            } else {
                join.left().clone()
            },
            table_keys,
            stream_keys,
            stream_is_left,
            kind,
            filter: join.filter().cloned(),
            joined: join.join_schema().clone(),
            projection: join.projection.as_ref().map(|p| p.to_vec()),
            nulls_equal: join.null_equality() == NullEquality::NullEqualsNull,
            built: OnceLock::new(),
        })
    }

    /// Gives the lookup the rows of its table. Call once, before the first `run`.
    pub fn build(&self, batches: &[RecordBatch]) -> Result<()> {
        let rows = compute::concat_batches(&self.table.schema(), batches)?;
        let keys = self
            .table_keys
            .iter()
            .map(|k| evaluate(k, &rows))
            .collect::<Result<Vec<_>>>()?;
        let converter = RowConverter::new(
            keys.iter()
                .map(|k| SortField::new(k.data_type().clone()))
                .collect(),
        )?;
        let encoded = converter.convert_columns(&keys)?;
        let mut index: HashMap<Box<[u8]>, Vec<u32>> = HashMap::new();
        let has_null = keys.iter().any(|k| k.null_count() > 0);
        for i in 0..rows.num_rows() {
            if self.nulls_equal || keys.iter().all(|k| k.is_valid(i)) {
                index
                    .entry(encoded.row(i).as_ref().into())
                    .or_default()
                    .push(i as u32);
            }
        }
        self.built
            .set(Built {
                rows,
                converter,
                index,
                has_null,
            })
            .map_err(|_| Error::bug("a lookup table loaded twice"))
    }

    pub fn run(&self, batch: &RecordBatch, origin: Option<&UInt32Array>) -> Result<Flow> {
        let built = self
            .built
            .get()
            .ok_or_else(|| Error::bug("a lookup table that was not loaded"))?;
        let (mut stream_rows, mut table_rows) = self.matches(batch, built)?;
        if let Some(filter) = &self.filter {
            (stream_rows, table_rows) = filtered(
                filter,
                batch,
                built,
                stream_rows,
                table_rows,
                self.stream_is_left,
            )?;
        }
        match self.kind {
            Kind::Inner => {}
            Kind::Outer => {
                (stream_rows, table_rows) =
                    with_unmatched(batch.num_rows(), &stream_rows, &table_rows);
            }
            Kind::Mark => {
                let mark = BooleanArray::from(flags(batch.num_rows(), &stream_rows));
                let mark: ArrayRef = Arc::new(mark);
                let columns = [batch.columns(), &[mark]].concat();
                return Ok(Flow {
                    batch: self.shaped(columns, batch.num_rows())?,
                    origin: origin.cloned(),
                });
            }
            Kind::Semi | Kind::Anti { .. } => {
                stream_rows = self.decided(batch, built, &stream_rows)?;
            }
        }
        let stream = take(batch.columns(), &stream_rows)?;
        let columns = match (self.gives_table(), self.stream_is_left) {
            (false, _) => stream,
            (true, true) => [stream, take(built.rows.columns(), &table_rows)?].concat(),
            (true, false) => [take(built.rows.columns(), &table_rows)?, stream].concat(),
        };
        Ok(Flow {
            batch: self.shaped(columns, stream_rows.len())?,
            origin: origin_of(origin, &stream_rows)?,
        })
    }

    /// Of joined columns those that are asked for.
    fn shaped(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let joined = with_rows(self.joined.clone(), columns, rows)?;
        Ok(match &self.projection {
            Some(projection) => joined.project(projection)?,
            None => joined,
        })
    }

    /// Whether the rows have the table's columns.
    fn gives_table(&self) -> bool {
        matches!(self.kind, Kind::Inner | Kind::Outer)
    }

    /// How many columns stand before the stream's, and how many behind them.
    pub fn added(&self) -> (usize, usize) {
        let table = self.table.schema().fields().len();
        match (self.gives_table(), self.stream_is_left) {
            (true, true) => (0, table),
            (true, false) => (table, 0),
            (false, _) => (0, usize::from(self.kind == Kind::Mark)),
        }
    }

    /// For `explain`, and for what a state means.
    pub fn text(&self) -> String {
        let table = displayable(self.table.as_ref()).one_line().to_string();
        let kind = match self.kind {
            Kind::Inner => "inner",
            Kind::Outer => "outer",
            Kind::Semi => "in",
            Kind::Mark => "whether in",
            Kind::Anti { null_aware: true } => "not in",
            Kind::Anti { null_aware: false } => "not exists",
        };
        format!("{kind} {}", table.trim())
    }

    /// The rows that the table lets through, of which `matched` have a match.
    fn decided(
        &self,
        batch: &RecordBatch,
        built: &Built,
        matched: &UInt32Array,
    ) -> Result<UInt32Array> {
        let is_matched = flags(batch.num_rows(), matched);
        let wanted = self.kind == Kind::Semi;
        let unknown = match self.kind {
            Kind::Anti { null_aware: true } if built.rows.num_rows() > 0 => {
                let keys = self.stream_keys.iter().map(|key| evaluate(key, batch));
                let keys = keys.collect::<Result<Vec<_>>>()?;
                let is_null = |row| built.has_null || keys.iter().any(|key| key.is_null(row));
                (0..batch.num_rows()).map(is_null).collect()
            }
            _ => vec![false; batch.num_rows()],
        };
        let rows = is_matched.iter().zip(&unknown).enumerate();
        Ok(rows
            .filter(|(_, (is_matched, unknown))| **is_matched == wanted && !**unknown)
            .map(|(row, _)| row as u32)
            .collect())
    }

    /// Pairs of rows with equal keys, in the stream's order.
    fn matches(&self, batch: &RecordBatch, built: &Built) -> Result<(UInt32Array, UInt32Array)> {
        let keys = self
            .stream_keys
            .iter()
            .map(|k| evaluate(k, batch))
            .collect::<Result<Vec<_>>>()?;
        let encoded = built.converter.convert_columns(&keys)?;
        let (mut stream_rows, mut table_rows) = (UInt32Builder::new(), UInt32Builder::new());
        for i in 0..batch.num_rows() {
            if !self.nulls_equal && keys.iter().any(|k| k.is_null(i)) {
                continue;
            }
            for row in built
                .index
                .get(encoded.row(i).as_ref())
                .into_iter()
                .flatten()
            {
                stream_rows.append_value(i as u32);
                table_rows.append_value(*row);
            }
        }
        Ok((stream_rows.finish(), table_rows.finish()))
    }
}

/// True for the rows that are named.
fn flags(rows: usize, named: &UInt32Array) -> Vec<bool> {
    let mut flags = vec![false; rows];
    (named.values().iter()).for_each(|row| flags[*row as usize] = true);
    flags
}

fn take(columns: &[ArrayRef], rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
    Ok(columns
        .iter()
        .map(|c| compute::take(c, rows, None))
        .collect::<Result<_, _>>()?)
}

/// Keeps the pairs for which the join's extra condition is true.
fn filtered(
    filter: &JoinFilter,
    batch: &RecordBatch,
    built: &Built,
    stream_rows: UInt32Array,
    table_rows: UInt32Array,
    stream_is_left: bool,
) -> Result<(UInt32Array, UInt32Array)> {
    let columns = filter
        .column_indices()
        .iter()
        .map(|c| {
            let from_stream = (c.side == JoinSide::Left) == stream_is_left;
            let (source, rows) = if from_stream {
                (batch, &stream_rows)
            } else {
                (&built.rows, &table_rows)
            };
            compute::take(source.column(c.index), rows, None)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let pairs = RecordBatch::try_new(filter.schema().clone(), columns)?;
    let mask = filter
        .expression()
        .evaluate(&pairs)
        .and_then(|v| v.into_array(pairs.num_rows()))
        .map_err(internal)?;
    let mask = mask
        .as_boolean_opt()
        .ok_or_else(|| Error::bug("a join condition that is not boolean"))?;
    let keep = |rows: &UInt32Array| -> Result<UInt32Array> {
        Ok(compute::filter(rows, mask)?.as_primitive().clone())
    };
    Ok((keep(&stream_rows)?, keep(&table_rows)?))
}

/// Adds the stream's rows without a match, with NULL for the table's row.
fn with_unmatched(
    rows: usize,
    stream_rows: &UInt32Array,
    table_rows: &UInt32Array,
) -> (UInt32Array, UInt32Array) {
    let (mut stream, mut table) = (UInt32Builder::new(), UInt32Builder::new());
    let mut pairs = stream_rows
        .values()
        .iter()
        .zip(table_rows.values())
        .peekable();
    for i in 0..rows as u32 {
        let before = stream.len();
        while let Some((s, t)) = pairs.next_if(|(s, _)| **s == i) {
            stream.append_value(*s);
            table.append_value(*t);
        }
        if stream.len() == before {
            stream.append_value(i);
            table.append_null();
        }
    }
    (stream.finish(), table.finish())
}
