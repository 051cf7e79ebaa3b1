//! What `CREATE TABLE` says, after parsing and before anything is opened.

use crate::error::At;
use crate::options::Options;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

/// A declared table: a source, a sink, or both, depending on how the file's statements use it.
#[derive(Debug, Clone)]
pub struct TableDef {
    pub name: String,
    /// In the order of the declaration.
    pub columns: Vec<Column>,
    pub watermark: Option<WatermarkDef>,
    /// Names of physical columns; makes a sink an upsert sink.
    pub primary_key: Vec<String>,
    /// Names of physical columns; a filesystem sink writes `key=value` folders.
    pub partitioned_by: Vec<String>,
    pub options: Options,
    /// The rows of a table that no file declares: constants of a query.
    pub values: Option<RecordBatch>,
    pub at: At,
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
    pub nullable: bool,
    pub kind: ColumnKind,
    /// `TIMESTAMP_LTZ`: the same values (UTC microseconds), written with a `Z`.
    pub ltz: bool,
    pub at: At,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ColumnKind {
    /// Read from, and written to, the record itself.
    Physical,
    /// Of the record's envelope. A virtual one is not written by a sink.
    Metadata { key: MetadataKey, is_virtual: bool },
    /// `name AS expr`: the expression's SQL text.
    Computed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataKey {
    Topic,
    Partition,
    Offset,
    Timestamp,
    TimestampType,
    Key,
    Headers,
}

impl MetadataKey {
    pub const ALL: [(&'static str, MetadataKey); 7] = [
        ("topic", MetadataKey::Topic),
        ("partition", MetadataKey::Partition),
        ("offset", MetadataKey::Offset),
        ("timestamp", MetadataKey::Timestamp),
        ("timestamp-type", MetadataKey::TimestampType),
        ("key", MetadataKey::Key),
        ("headers", MetadataKey::Headers),
    ];
}

/// `WATERMARK FOR column AS column - delay`.
#[derive(Debug, Clone)]
pub struct WatermarkDef {
    pub column: String,
    /// Microseconds, never negative.
    pub delay_us: i64,
    pub at: At,
}

/// Metadata of the field that is a table's event time.
pub const EVENT_TIME: &str = "windrow.event_time";

impl TableDef {
    /// All columns as an Arrow schema, in the order of the declaration. The event time says so in its
    /// metadata.
    pub fn schema(&self) -> SchemaRef {
        let field = |column: &Column| {
            let is_time = self
                .watermark
                .as_ref()
                .is_some_and(|w| w.column == column.name);
            let time = is_time.then(|| (EVENT_TIME.to_string(), String::new()));
            column.field().with_metadata(time.into_iter().collect())
        };
        Arc::new(Schema::new(
            self.columns.iter().map(field).collect::<Vec<_>>(),
        ))
    }

    /// Whether the values of a column stand in the names of folders, not in the files.
    pub fn is_folder(&self, column: &str) -> bool {
        self.connector() == "filesystem" && self.partitioned_by.iter().any(|name| name == column)
    }

    /// The columns that a sink writes: physical ones and metadata that is not virtual.
    pub fn sink_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|c| match &c.kind {
            ColumnKind::Physical => true,
            ColumnKind::Metadata { is_virtual, .. } => !is_virtual,
            ColumnKind::Computed(_) => false,
        })
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    pub fn connector(&self) -> &str {
        match &self.values {
            Some(_) => "values",
            None => self.options.get("connector").unwrap_or(""),
        }
    }
}

impl Column {
    pub fn field(&self) -> Field {
        Field::new(&self.name, self.data_type.clone(), self.nullable)
    }
}

/// The SQL name of a type, for messages.
pub fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8 => "STRING".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Date32 => "DATE".into(),
        DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(..) => "TIMESTAMP".into(),
        DataType::Interval(_) => "INTERVAL".into(),
        DataType::Binary | DataType::BinaryView => "BYTES".into(),
        DataType::List(_) => "ARRAY".into(),
        DataType::Map(..) => "MAP".into(),
        DataType::Struct(_) => "ROW".into(),
        other => other.to_string(),
    }
}
