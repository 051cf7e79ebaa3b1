//! What the parser reads and DataFusion's planner does not take, in other words:
//!
//! | query | becomes |
//! |---|---|
//! | `SELECT id, id`, `SELECT *, id`, `SELECT id, CAST(id AS INT)` | `SELECT id, id AS id0`, as in Flink |
//! | `SELECT row.a` | `SELECT row.a AS a` |
//! | `FETCH FIRST n ROWS ONLY` | `LIMIT n` |
//! | `LIKE 'a!%' ESCAPE '!'` | `LIKE 'a\%'` |

use datafusion_sql::sqlparser::ast::{
    Expr, Fetch, Ident, LimitClause, Query, Select, SelectItem, SetExpr, TableFactor,
    TableWithJoins, Value, VisitMut, VisitorMut,
};
use datafusion_sql::sqlparser::tokenizer::Span;
use std::collections::HashSet;
use std::convert::Infallible;
use std::ops::ControlFlow;

/// Rewrites a query; `columns` knows those of the declared tables.
pub fn rewrite(query: &mut Query, columns: &dyn Fn(&str) -> Option<Vec<String>>) {
    let ControlFlow::Continue(()) = VisitMut::visit(query, &mut Rewrite { columns });
}

struct Rewrite<'a> {
    columns: &'a dyn Fn(&str) -> Option<Vec<String>>,
}

impl VisitorMut for Rewrite<'_> {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        fetch(query);
        self.set(&mut query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
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

impl Rewrite<'_> {
    fn set(&self, body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => self.name(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.set(left);
                self.set(right);
            }
            _ => {}
        }
    }

    /// Gives columns that stand in the list again a name of their own.
    fn name(&self, select: &mut Select) {
        let mut known: HashSet<String> = HashSet::new();
        let joined = |from: &TableWithJoins| {
            let others = from.joins.iter().map(|join| &join.relation);
            let relations = std::iter::once(&from.relation).chain(others);
            relations.map(name_of).collect::<Vec<_>>()
        };
        let tables: Vec<_> = select.from.iter().flat_map(joined).collect();
        let only = match (select.from.as_slice(), tables.as_slice()) {
            ([one], [_]) => Some(&one.relation),
            _ => None,
        };
        let all = only.and_then(|relation| self.columns_of(relation));
        for item in &mut select.projection {
            match item {
                SelectItem::Wildcard(options) if options.to_string().is_empty() => {
                    known.extend(all.iter().flatten().cloned());
                }
                SelectItem::ExprWithAlias { alias, .. } => {
                    known.insert(alias.value.clone());
                }
                SelectItem::UnnamedExpr(expr) => {
                    let field = field(expr, &tables);
                    let name = match (&field, only) {
                        (Some(field), _) => field.clone(),
                        (None, Some(_)) => shown(expr, &tables),
                        (None, None) => expr.to_string(),
                    };
                    let is_new = known.insert(name.clone());
                    if is_new && field.is_none() {
                        continue;
                    }
                    let mut numbers = (0..).map(|n| format!("{name}{n}"));
                    let name = match is_new {
                        true => Some(name),
                        false => numbers.find(|name| known.insert(name.clone())),
                    };
                    if let Some(name) = name {
                        *item = SelectItem::ExprWithAlias {
                            expr: expr.clone(),
                            alias: Ident::with_quote('`', name),
                        };
                    }
                }
                _ => {}
            }
        }
    }

    /// The names that `*` stands for over one relation, where they can be told.
    fn columns_of(&self, relation: &TableFactor) -> Option<Vec<String>> {
        let query = match relation {
            TableFactor::Table { name, .. } => {
                let name = name.0.last()?.as_ident()?;
                return (self.columns)(&name.value);
            }
            TableFactor::Derived { subquery, .. } => subquery,
            _ => return None,
        };
        let SetExpr::Select(select) = query.body.as_ref() else {
            return None;
        };
        let [from] = select.from.as_slice() else {
            return None;
        };
        let mut names = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::Wildcard(_) if from.joins.is_empty() => {
                    names.extend(self.columns_of(&from.relation)?);
                }
                SelectItem::ExprWithAlias { alias, .. } => names.push(alias.value.clone()),
                SelectItem::UnnamedExpr(expr) => {
                    let tables = [name_of(&from.relation)];
                    names.push(field(expr, &tables).unwrap_or_else(|| shown(expr, &tables)));
                }
                _ => return None,
            }
        }
        Some(names)
    }
}

/// The name by which a relation's columns are called, empty where there is none; `None`: not known.
fn name_of(relation: &TableFactor) -> Option<String> {
    let (name, alias) = match relation {
        TableFactor::Table { name, alias, .. } => {
            let last = name.0.last().and_then(|part| part.as_ident());
            (last.map(|ident| ident.value.clone()), alias)
        }
        TableFactor::Derived { alias, .. } => (Some(String::new()), alias),
        TableFactor::UNNEST { alias, .. } => (None, alias),
        _ => return None,
    };
    match alias {
        Some(alias) => Some(alias.name.value.clone()),
        None => name,
    }
}

/// The field of a ROW that an expression is.
fn field(expr: &Expr, tables: &[Option<String>]) -> Option<String> {
    let Expr::CompoundIdentifier(parts) = expr else {
        return None;
    };
    let of_table = tables
        .iter()
        .flatten()
        .any(|table| *table == parts[0].value);
    let is_field = parts.len() > 1 + usize::from(of_table);
    (is_field && tables.iter().all(Option::is_some)).then(|| parts[parts.len() - 1].value.clone())
}

/// The name that DataFusion gives an expression over one table, as far as names can be equal.
fn shown(expr: &Expr, tables: &[Option<String>]) -> String {
    match expr {
        Expr::Cast { expr, .. } => shown(expr, tables),
        Expr::Identifier(ident) => ident.value.clone(),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [of, name] if tables.contains(&Some(of.value.clone())) => name.value.clone(),
            _ => expr.to_string(),
        },
        _ => expr.to_string(),
    }
}
