//! Names of columns: one for each, as in Flink. What stands in the list again has a number behind its name.

use datafusion_common::Column;
use datafusion_sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion_sql::sqlparser::ast::{
    Cte, Expr, GroupByExpr, Ident, ObjectNamePart, Query, Select, SelectItem, SetExpr, TableFactor,
    TableWithJoins, VisitMut, VisitorMut, With,
};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Gives each column of the list a name of its own; `columns` knows those of a query's result.
pub fn rewrite(select: &mut Select, known: &[Cte], columns: &dyn Fn(Query) -> Option<Vec<Column>>) {
    let tables: Vec<_> = select
        .from
        .iter()
        .flat_map(relations)
        .map(name_of)
        .collect();
    // All of one relation have names of their own already.
    let is_all = select.projection.len() == 1 && tables.len() == 1;
    let items = select.projection.iter().map(|item| match item {
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) if is_all => None,
        SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
            let all = columns(only(item.clone(), select, known))?;
            let renames = options.opt_replace.is_some() || options.opt_rename.is_some();
            Some(Item::Columns(all, !renames))
        }
        SelectItem::ExprWithAlias { alias, .. } => Some(Item::Named(alias.value.clone())),
        SelectItem::UnnamedExpr(expr) => Some(match field(expr, &tables) {
            Some(name) => Item::Field(name),
            None => Item::Named(shown(expr, &tables)),
        }),
        SelectItem::ExprWithAliases { .. } => None,
    });
    let items: Vec<_> = items.collect();

    let mut used = HashSet::new();
    for item in items.iter().flatten() {
        // The names behind `* REPLACE (…)` stay.
        if let Item::Columns(all, false) = item {
            used.extend(all.iter().map(|column| column.name.clone()));
        }
    }
    let mut unique = |name: &str| {
        let (mut other, mut n) = (name.to_string(), 0);
        while !used.insert(other.clone()) {
            (other, n) = (format!("{name}{n}"), n + 1);
        }
        other
    };
    let renamed = |item, name: &str, other: String| match other == name {
        true => item,
        false => aliased(item, other),
    };
    let old = std::mem::take(&mut select.projection);
    for (item, names) in old.into_iter().zip(items) {
        match names {
            Some(Item::Named(name)) => {
                let other = unique(&name);
                select.projection.push(renamed(item, &name, other));
            }
            Some(Item::Field(name)) => select.projection.push(aliased(item, unique(&name))),
            Some(Item::Columns(all, true)) => {
                let others: Vec<_> = all.iter().map(|column| unique(&column.name)).collect();
                if others.iter().eq(all.iter().map(|column| &column.name)) {
                    select.projection.push(item);
                    continue;
                }
                let each = all.iter().zip(others).map(|(column, other)| {
                    let item = SelectItem::UnnamedExpr(reference(column));
                    renamed(item, &column.name, other)
                });
                select.projection.extend(each);
            }
            Some(Item::Columns(_, false)) | None => select.projection.push(item),
        }
    }
}

/// What an item of the list gives.
enum Item {
    Named(String),
    /// A field of a ROW, which has the field's name.
    Field(String),
    /// `*`, also with EXCEPT; true where none has another name or value.
    Columns(Vec<Column>, bool),
}

fn relations(from: &TableWithJoins) -> impl Iterator<Item = &TableFactor> {
    let others = from.joins.iter().map(|join| &join.relation);
    std::iter::once(&from.relation).chain(others)
}

/// A query of one item over the relations of a SELECT.
fn only(item: SelectItem, select: &Select, known: &[Cte]) -> Query {
    let select = Select {
        distinct: None,
        top: None,
        projection: vec![item],
        into: None,
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        ..select.clone()
    };
    let with = (!known.is_empty()).then(|| With {
        with_token: AttachedToken::empty(),
        recursive: false,
        cte_tables: known.to_vec(),
    });
    Query {
        with,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

fn aliased(item: SelectItem, name: String) -> SelectItem {
    let alias = Ident::with_quote('`', name);
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            SelectItem::ExprWithAlias { expr, alias }
        }
        other => other,
    }
}

fn reference(column: &Column) -> Expr {
    let name = Ident::with_quote('`', &column.name);
    match &column.relation {
        Some(relation) => {
            Expr::CompoundIdentifier(vec![Ident::with_quote('`', relation.table()), name])
        }
        None => Expr::Identifier(name),
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

/// The name that DataFusion gives an expression, as far as names can be equal.
fn shown(expr: &Expr, tables: &[Option<String>]) -> String {
    let mut expr = expr.clone();
    while let Expr::Cast { expr: of, .. } | Expr::Nested(of) = expr {
        expr = *of;
    }
    if let Some(name) = column(&expr, tables) {
        return name.value.clone();
    }
    // Of several tables, DataFusion's name says which.
    let tables = if tables.len() == 1 { tables } else { &[] };
    let _visited = VisitMut::visit(&mut expr, &mut Bare { tables });
    match expr {
        Expr::Identifier(ident) => ident.value,
        other => other.to_string(),
    }
}

/// The column of one of the tables that an expression is.
fn column<'a>(expr: &'a Expr, tables: &[Option<String>]) -> Option<&'a Ident> {
    let Expr::CompoundIdentifier(parts) = expr else {
        return None;
    };
    let [of, name] = parts.as_slice() else {
        return None;
    };
    tables.contains(&Some(of.value.clone())).then_some(name)
}

/// Leaves out what the name does not show: brackets, tables, how a function is spelt.
struct Bare<'a> {
    tables: &'a [Option<String>],
}

impl VisitorMut for Bare<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Nested(of) => *expr = of.as_ref().clone(),
            Expr::Function(function) => {
                for part in &mut function.name.0 {
                    if let ObjectNamePart::Identifier(ident) = part {
                        ident.value.make_ascii_lowercase();
                    }
                }
            }
            of => {
                if let Some(name) = column(of, self.tables) {
                    *of = Expr::Identifier(name.clone());
                }
            }
        }
        ControlFlow::Continue(())
    }
}
