//! What the parser reads and DataFusion's planner does not take, in other words:
//!
//! | query | becomes |
//! |---|---|
//! | `SELECT id, id`, `SELECT *, id`, `SELECT a.id, b.id` | `SELECT id, id AS id0`, as in Flink |
//! | `SELECT row.a` | `SELECT row.a AS a` |
//! | `GROUP BY a, b WITH ROLLUP` | `GROUP BY ROLLUP(a, b)` |
//! | `GROUP BY ROLLUP((a, b), c)` | `GROUP BY GROUPING SETS ((), (a, b), (a, b, c))` |
//! | `GROUP BY a, b GROUPING SETS ((a, b), (a))` | `GROUP BY GROUPING SETS ((a, b), (a))` |
//! | `FETCH FIRST n ROWS ONLY` | `LIMIT n` |
//! | `LIKE 'a!%' ESCAPE '!'` | `LIKE 'a\%'` |
//! | `rows[1].a` | `rows[1]['a']` |
//! | `UNNEST(rows) AS x (a, b)` | `LATERAL (SELECT UNNEST(e) FROM UNNEST(rows) AS x (e)) AS x (a, b)`, as in Flink |

mod names;

use super::grouping;
use datafusion_common::Column;
use datafusion_sql::sqlparser::ast::{
    AccessExpr, Cte, Expr, Fetch, GroupByExpr, GroupByWithModifier, Ident, LimitClause, Query,
    SetExpr, Statement, Subscript, TableFactor, Value, VisitMut, VisitorMut, With,
};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::Parser;
use datafusion_sql::sqlparser::tokenizer::Span;
use std::ops::ControlFlow;

/// A part of a query that would be left out, and what to say of it.
#[derive(Debug)]
pub struct Refused {
    pub word: &'static str,
    pub message: &'static str,
}

/// Rewrites a query; `columns` knows those of a query's result.
pub fn rewrite(
    query: &mut Query,
    columns: &dyn Fn(Query) -> Option<Vec<Column>>,
) -> Result<(), Refused> {
    let mut rewrite = Rewrite {
        columns,
        scopes: Vec::new(),
    };
    match VisitMut::visit(query, &mut rewrite) {
        ControlFlow::Break(refused) => Err(refused),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Rewrite<'a> {
    columns: &'a dyn Fn(Query) -> Option<Vec<Column>>,
    /// Of each query around: its WITH, and how its tables are called in it and in queries around it.
    scopes: Vec<(Option<With>, Vec<Cte>)>,
}

impl VisitorMut for Rewrite<'_> {
    type Break = Refused;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Refused> {
        fetch(query);
        let around = self.scopes.last().map(|(_, known)| known.clone());
        self.scopes.push((None, around.unwrap_or_default()));
        // Before the query itself: what it selects from a WITH depends on the names there.
        let mut with = query.with.take();
        for cte in with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            VisitMut::visit(cte, self)?;
            if let Some((_, known)) = self.scopes.last_mut() {
                known.push(cte.clone());
            }
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.0 = with;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Refused> {
        let (with, known) = self.scopes.pop().unwrap_or_default();
        self.set(&mut query.body, &known)?;
        query.with = with;
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<Refused> {
        rows_apart(table);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Refused> {
        together(expr);
        fields_of_elements(expr);
        if let Expr::Like {
            pattern,
            escape_char,
            ..
        }
        | Expr::ILike {
            pattern,
            escape_char,
            ..
        } = expr
            && let Some(escape) = escape_char.as_ref().and_then(|e| text(&e.value))
            && let Expr::Value(value) = pattern.as_mut()
            && let Some(other) = text(&value.value).and_then(|text| unescaped(text, escape))
        {
            value.value = Value::SingleQuotedString(other);
            *escape_char = None;
        }
        ControlFlow::Continue(())
    }
}

impl Rewrite<'_> {
    fn set(&self, body: &mut SetExpr, known: &[Cte]) -> ControlFlow<Refused> {
        match body {
            SetExpr::Select(select) => {
                group_by(&mut select.group_by)?;
                names::rewrite(select, known, self.columns);
            }
            SetExpr::SetOperation { left, right, .. } => {
                self.set(left, known)?;
                self.set(right, known)?;
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What stands behind the keys of a GROUP BY, which the planner does not look at, before them.
fn group_by(group_by: &mut GroupByExpr) -> ControlFlow<Refused> {
    let refused = |word, message| ControlFlow::Break(Refused { word, message });
    let (keys, modifiers) = match group_by {
        GroupByExpr::Expressions(keys, modifiers) => (keys, modifiers),
        GroupByExpr::All(modifiers) if modifiers.is_empty() => return ControlFlow::Continue(()),
        GroupByExpr::All(_) => return refused("GROUP", "GROUP BY ALL has no grouping sets"),
    };
    let one_each = |keys: &mut Vec<Expr>| keys.drain(..).map(|key| vec![key]).collect();
    let sets = match modifiers.as_slice() {
        [] => return ControlFlow::Continue(()),
        [GroupByWithModifier::Rollup] => Expr::Rollup(one_each(keys)),
        [GroupByWithModifier::Cube] => Expr::Cube(one_each(keys)),
        [GroupByWithModifier::GroupingSets(sets)] => sets.clone(),
        [GroupByWithModifier::Totals] => {
            return refused("TOTALS", "WITH TOTALS is not known: write WITH ROLLUP");
        }
        _ => return refused("WITH", "a GROUP BY has one WITH ROLLUP or WITH CUBE"),
    };
    *keys = vec![sets];
    modifiers.clear();
    ControlFlow::Continue(())
}

/// ROLLUP and CUBE of columns that come and go together, as the sets that they mean.
fn together(expr: &mut Expr) {
    let has_several = |list: &[Vec<Expr>]| list.iter().any(|of| of.len() != 1);
    let sets = match expr {
        Expr::Rollup(list) if has_several(list) => grouping::prefixes(list),
        // As many as DataFusion allows.
        Expr::Cube(list) if has_several(list) && list.len() <= 12 => grouping::subsets(list),
        _ => return,
    };
    *expr = Expr::GroupingSets(sets.iter().map(|set| set.concat()).collect());
}

/// Fields of what stands behind an index or in brackets, by index, too.
fn fields_of_elements(expr: &mut Expr) {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else {
        return;
    };
    let is_path = matches!(
        root.as_ref(),
        Expr::Identifier(_) | Expr::CompoundIdentifier(_)
    );
    let dots = access_chain
        .iter()
        .take_while(|a| matches!(a, AccessExpr::Dot(_)));
    let names = if is_path { dots.count() } else { 0 };
    for access in access_chain.iter_mut().skip(names) {
        if let AccessExpr::Dot(Expr::Identifier(name)) = access {
            let value = Value::SingleQuotedString(name.value.clone()).with_span(name.span);
            let index = Expr::Value(value);
            *access = AccessExpr::Subscript(Subscript::Index { index });
        }
    }
}

/// A list of ROWs under several names, one for each field.
fn rows_apart(table: &mut TableFactor) {
    let parsed = || Parser::parse_sql(&GenericDialect {}, "SELECT UNNEST(element) FROM x");
    if let TableFactor::UNNEST {
        alias: Some(alias),
        array_exprs,
        with_offset: false,
        ..
    } = table
        && array_exprs.len() == 1
        && alias.columns.len() > 1
        && let Some(Statement::Query(mut query)) = parsed().ok().and_then(|mut all| all.pop())
        && let SetExpr::Select(select) = query.body.as_mut()
        && let Some(from) = select.from.first_mut()
    {
        let names = alias.clone();
        alias.columns.truncate(1);
        alias.columns[0].name = Ident::new("element");
        from.relation = table.clone();
        *table = TableFactor::Derived {
            lateral: true,
            subquery: query,
            alias: Some(names),
            sample: None,
        };
    }
}

/// FETCH as LIMIT, beside an OFFSET that may be there.
fn fetch(query: &mut Query) {
    let Some(Fetch {
        with_ties: false,
        percent: false,
        quantity,
    }) = query.fetch.clone()
    else {
        return;
    };
    let one = || Value::Number("1".into(), false).with_span(Span::empty());
    let limit = Some(quantity.unwrap_or_else(|| Expr::Value(one())));
    query.limit_clause = Some(match query.limit_clause.take() {
        None => LimitClause::LimitOffset {
            limit,
            offset: None,
            limit_by: vec![],
        },
        Some(LimitClause::LimitOffset {
            limit: None,
            offset,
            limit_by,
        }) => LimitClause::LimitOffset {
            limit,
            offset,
            limit_by,
        },
        // Two limits: the planner's to refuse.
        both => {
            query.limit_clause = both;
            return;
        }
    });
    query.fetch = None;
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::SingleQuotedString(text) => Some(text),
        _ => None,
    }
}

/// A pattern of LIKE whose escape is a backslash instead of `escape`.
fn unescaped(pattern: &str, escape: &str) -> Option<String> {
    let mut escape = escape.chars();
    let (Some(escape), None) = (escape.next(), escape.next()) else {
        return None;
    };
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let literal = match c == escape {
            true => chars.next()?,
            false if c != '\\' => {
                out.push(c);
                continue;
            }
            false => c,
        };
        if matches!(literal, '%' | '_' | '\\') {
            out.push('\\');
        }
        out.push(literal);
    }
    Some(out)
}
