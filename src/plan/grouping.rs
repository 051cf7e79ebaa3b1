//! GROUPING SETS, ROLLUP and CUBE over the rows of a stream: each row once for each set, with NULL for the
//! keys that are not in it, grouped by the keys and the set. An aggregate over results keeps its sets.

use super::markers::Kind;
use super::nodes;
use super::over::is_raw;
use super::row_windows::window_of;
use crate::error::Error;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, Result, ScalarValue, not_impl_err};
use datafusion_expr::expr::GroupingSet;
use datafusion_expr::logical_plan::Aggregate;
use datafusion_expr::utils::grouping_set_to_exprlist;
use datafusion_expr::{Expr, LogicalPlan, bitwise_and, lit, when};
use std::collections::HashMap;
use std::sync::Arc;

/// What of a plan's grouping sets is refused: a window is in all of them or in none, and a session is of all
/// keys. The plan is one that is not optimised yet.
pub fn refused(plan: &LogicalPlan) -> Result<Option<Error>> {
    let mut refused = None;
    plan.apply_with_subqueries(|node| {
        if let Some((aggregate, sets)) = with_sets(node) {
            let all = sets_of(sets);
            for key in sets.distinct_expr() {
                let is_in_all = all.iter().all(|set| set.contains(key));
                refused = match window_of(key, &aggregate.input) {
                    Some(Kind::Session | Kind::SessionBy) => {
                        Some(Error::sql("a session is of all keys, so its rows have no grouping sets").with_hint(
                            "group by the session and all keys in a subquery, and by window_start, window_end and the sets over it",
                        ))
                    }
                    Some(_) if !is_in_all => {
                        Some(Error::sql("a window must be in all grouping sets").with_hint(
                            "write GROUP BY window_start, window_end, ROLLUP (…)",
                        ))
                    }
                    _ => continue,
                };
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(refused)
}

/// Rewrites all such aggregates of an optimised plan.
pub fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up(|node| {
        Ok(match with_sets(&node) {
            Some((aggregate, sets)) => Transformed::yes(by_sets(aggregate, sets)?),
            None => Transformed::no(node),
        })
    });
    Ok(rewritten?.data)
}

/// An aggregate of rows, not of results, by grouping sets.
fn with_sets(node: &LogicalPlan) -> Option<(&Aggregate, &GroupingSet)> {
    let LogicalPlan::Aggregate(aggregate) = node else {
        return None;
    };
    let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() else {
        return None;
    };
    is_raw(&aggregate.input).then_some((aggregate, sets))
}

/// All sets that are meant.
pub(super) fn sets_of(sets: &GroupingSet) -> Vec<Vec<Expr>> {
    match sets {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(list) => prefixes(list),
        GroupingSet::Cube(list) => subsets(list),
    }
}

/// What ROLLUP means.
pub(super) fn prefixes<T: Clone>(list: &[T]) -> Vec<Vec<T>> {
    (0..=list.len()).map(|n| list[..n].to_vec()).collect()
}

/// What CUBE means.
pub(super) fn subsets<T: Clone>(list: &[T]) -> Vec<Vec<T>> {
    let mut sets = vec![Vec::new()];
    for e in list {
        let with: Vec<Vec<T>> = sets
            .iter()
            .map(|set| [set.as_slice(), std::slice::from_ref(e)].concat())
            .collect();
        sets.extend(with);
    }
    sets
}

fn by_sets(aggregate: &Aggregate, sets: &GroupingSet) -> Result<LogicalPlan> {
    let keys: Vec<Expr> = grouping_set_to_exprlist(&aggregate.group_expr)?
        .into_iter()
        .cloned()
        .collect();
    let sets = sets_of(sets);
    // DataFusion's number of a set has a bit for each key, the last key's is the lowest: 1 where the key
    // is not in the set.
    let bit = |key: usize| 1_u64 << (keys.len() - 1 - key);
    let missing = |set: &Vec<Expr>| {
        let missing = keys
            .iter()
            .enumerate()
            .filter(|(_, key)| !set.contains(key));
        missing.map(|(i, _)| bit(i)).sum::<u64>()
    };
    // DataFusion takes 4096 sets at most: 12 bits are left for them.
    if keys.len() > 52 {
        return not_impl_err!("grouping sets of more than 52 columns");
    }
    // Above them the times that the set has been there before.
    let mut seen: HashMap<u64, u64> = HashMap::new();
    let numbers = sets.iter().map(missing).map(|missing| {
        let times = seen.entry(missing).or_default();
        let number = missing | *times << keys.len();
        *times += 1;
        number
    });
    let numbers: Vec<u64> = numbers.collect();
    let times = seen.values().max().map_or(0, |times| *times as usize - 1);
    let id = Column::from_name(Aggregate::INTERNAL_GROUPING_ID);
    let id_type = Aggregate::grouping_id_type(keys.len(), times);
    let number = |n: u64| ScalarValue::UInt64(Some(n)).cast_to(&id_type);
    let list = numbers.iter().map(|n| number(*n));
    let list = ScalarValue::new_list(&list.collect::<Result<Vec<_>>>()?, &id_type, false);
    let list = lit(ScalarValue::List(list));
    let rows = nodes::for_each(&aggregate.input, list, &id.name)?;

    let mut exprs: Vec<Expr> = nodes::columns(&rows).collect();
    let mut group = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        if numbers.iter().all(|n| n & bit(i) == 0) {
            group.push(key.clone());
            continue;
        }
        let is_in = bitwise_and(Expr::Column(id.clone()), lit(number(bit(i))?)).eq(lit(number(0)?));
        let name = format!("__key_{i}");
        exprs.push(when(is_in, key.clone()).end()?.alias(&name));
        group.push(Expr::Column(Column::from_name(name)));
    }
    group.push(Expr::Column(id));
    let rows = Arc::new(nodes::project(rows, exprs)?);
    let grouped = Aggregate::try_new(rows, group, aggregate.aggr_expr.clone())?;
    let grouped = LogicalPlan::Aggregate(grouped);
    let renamed = nodes::columns(&grouped).zip(aggregate.schema.columns());
    let renamed = renamed.map(|(column, to)| column.alias_qualified(to.relation, to.name));
    let renamed = renamed.collect();
    nodes::project(grouped, renamed)
}
