//! CREATE and DROP of tables and views.

use super::Script;
use super::queries::scanned;
use crate::encode::text::counted;
use crate::error::{Error, Result};
use crate::plan::ddl;
use crate::plan::errors::planning;
use crate::plan::tokens::Tokens;
use crate::table::sql_name;
use arrow::datatypes::DataType;
use datafusion_expr::{Expr, LogicalPlanBuilder};
use datafusion_sql::sqlparser::tokenizer::Token;

impl Script {
    pub(super) fn create(&mut self, t: &Tokens) -> Result<()> {
        let mut i = 1;
        let replaces = t.are_words(i, &["OR", "REPLACE"]);
        if replaces {
            i += 2;
        }
        if t.is_word(i, "TEMPORARY") || t.is_word(i, "TEMP") {
            i += 1;
        }
        let view = t.is_word(i, "VIEW");
        if !view && !t.is_word(i, "TABLE") {
            return Err(Error::sql("expected TABLE or VIEW").or_at(t.at(i)));
        }
        i += 1;
        let mut tolerant = false;
        if t.are_words(i, &["IF", "NOT", "EXISTS"]) {
            (tolerant, i) = (true, i + 3);
        }
        let name = t.name(i, "a name")?;
        if replaces {
            self.tables.remove(&name);
            self.views.remove(&name);
        } else if self.tables.contains_key(&name) || self.views.contains_key(&name) {
            return if tolerant {
                Ok(())
            } else {
                Err(Error::sql(format!("'{name}' exists already")).or_at(t.at(i)))
            };
        }
        let mut by_views = self.views.values().flatten();
        if self.read.contains(&name) || by_views.any(|read| *read == name) {
            return Err(Error::sql(format!(
                "a query or view above reads another table '{name}'"
            ))
            .or_at(t.at(i))
            .with_hint("give this one a name of its own"));
        }
        if view {
            self.create_view(t, i, name)
        } else {
            self.create_table(t, i)
        }
    }

    fn create_table(&mut self, t: &Tokens, i: usize) -> Result<()> {
        let mut def = ddl::create_table(t, i, &|tokens| self.interval_us(tokens))?;
        self.type_computed_columns(&mut def)?;
        if let Some(w) = &def.watermark
            && let Some(c) = def.column(&w.column)
            && !matches!(c.data_type, DataType::Timestamp(..))
        {
            return Err(Error::sql(format!(
                "the watermark's column '{}' must be a TIMESTAMP, but it is {}",
                c.name,
                sql_name(&c.data_type)
            ))
            .or_at(c.at)
            .with_hint("convert it: ts AS TO_TIMESTAMP(…), or TO_TIMESTAMP_LTZ(epoch, 0 or 3)"));
        }
        self.session.register(&def.name, def.schema());
        self.tables.insert(def.name.clone(), def);
        Ok(())
    }

    fn create_view(&mut self, t: &Tokens, i: usize, name: String) -> Result<()> {
        let mut query = i + 1;
        let mut names = Vec::new();
        if t.is(query, &Token::LParen) {
            let close = t.close(query)?;
            for (a, b) in t.split_commas(query + 1, close, false) {
                names.push(t.name(a, "a column's name")?);
                let behind = behind_comment(t, a + 1)?;
                if behind != b {
                    return Err(Error::sql("expected a column's name alone").or_at(t.at(behind)));
                }
            }
            query = close + 1;
        }
        query = behind_comment(t, query)?;
        if !t.is_word(query, "AS") {
            return Err(Error::sql("expected AS").or_at(t.at(query)));
        }
        let (tokens, mut plan) = self.logical(&t.slice(query + 1, t.len()))?;
        if !names.is_empty() {
            if names.len() != plan.schema().fields().len() {
                let text = format!(
                    "the view names {}, its query has {}",
                    counted(names.len() as u64, "column"),
                    plan.schema().fields().len()
                );
                return Err(Error::sql(text).or_at(t.at(i)));
            }
            let exprs = plan
                .schema()
                .columns()
                .into_iter()
                .zip(&names)
                .map(|(c, n)| Expr::Column(c).alias(n));
            plan = LogicalPlanBuilder::from(plan.clone())
                .project(exprs.collect::<Vec<_>>())
                .and_then(|b| b.build())
                .map_err(|e| planning(e, &tokens))?;
        }
        let read = scanned(&plan).map_err(|e| planning(e, &tokens))?;
        self.session.register_view(&name, plan);
        self.views.insert(name, read);
        Ok(())
    }

    pub(super) fn drop(&mut self, t: &Tokens) -> Result<()> {
        let mut i = if t.is_word(1, "TEMPORARY") { 2 } else { 1 };
        let Some(kind) = ["TABLE", "VIEW"]
            .into_iter()
            .find(|kind| t.is_word(i, kind))
        else {
            return Err(Error::sql("expected TABLE or VIEW").or_at(t.at(i)));
        };
        i += 1;
        let tolerant = t.are_words(i, &["IF", "EXISTS"]);
        if tolerant {
            i += 2;
        }
        let name = t.name(i, "a name")?;
        if i + 1 < t.len() {
            let unexpected = format!(
                "unexpected {} behind DROP {kind} {name}",
                t.list[i + 1].token
            );
            let hint = "write one DROP for each table or view, with nothing behind its name";
            return Err(Error::sql(unexpected).or_at(t.at(i + 1)).with_hint(hint));
        }
        let other = match kind {
            "TABLE" => self.views.contains_key(&name).then_some("VIEW"),
            _ => self.tables.contains_key(&name).then_some("TABLE"),
        };
        if let Some(other) = other {
            let is = format!("'{name}' is a {}", other.to_lowercase());
            let hint = format!("write DROP {other} {name}");
            return Err(Error::sql(is).or_at(t.at(i)).with_hint(hint));
        }
        let known = self.tables.remove(&name).is_some() | self.views.remove(&name).is_some();
        if !known && !tolerant {
            let kind = kind.to_lowercase();
            return Err(Error::sql(format!("there is no {kind} '{name}'")).or_at(t.at(i)));
        }
        self.session.deregister(&name);
        Ok(())
    }
}

/// The index behind a COMMENT, if there is one at `i`.
fn behind_comment(t: &Tokens, i: usize) -> Result<usize> {
    if !t.is_word(i, "COMMENT") {
        return Ok(i);
    }
    t.string(i + 1, "the comment").map(|_| i + 2)
}
