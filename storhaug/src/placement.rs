//! Which node each address prefers.
//!
//! Balanced: every address has one home, spread as evenly as possible, and
//! Pacemaker's own `placement-strategy=balanced` finds the emptiest node for
//! the addresses whose home is lost. Deterministic: every address has an order
//! of all nodes, made so that any single failure leaves the load within one,
//! and any double failure as even as the orders chosen so far allow.
//!
//! An address keeps the home it has, as far as the load stays even: a node that
//! comes or goes moves no more addresses than it must.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, Placement};

/// A node and the score an address has for it; higher is better.
pub type Preference<'a> = (&'a str, usize);

/// The preferences of each address, in the order of `cluster.vips`. `known` are
/// the homes that addresses have so far, by their names.
pub fn preferences<'a>(
    cluster: &'a Cluster,
    known: &BTreeMap<String, String>,
) -> Vec<Vec<Preference<'a>>> {
    let nodes: Vec<&str> = cluster.storage_nodes().map(|n| n.name.as_str()).collect();
    let wishes: Vec<Vec<usize>> = cluster
        .vips
        .iter()
        .map(|vip| {
            let wished = vip.prefer.iter();
            wished
                .filter_map(|name| nodes.iter().position(|node| node == name))
                .collect()
        })
        .collect();
    let known = cluster.vips.iter().map(|vip| {
        let home = known.get(&vip.name)?;
        nodes.iter().position(|node| node == home)
    });
    let homes = homes(nodes.len(), &wishes, &known.collect::<Vec<_>>());
    let orders = match cluster.placement {
        Placement::Balanced => homes,
        Placement::Deterministic => orders(nodes.len(), homes),
    };
    let scored = orders.into_iter().map(|order| {
        let best = order.len();
        let ranked = order.into_iter().enumerate();
        ranked
            .map(|(rank, node)| (nodes[node], best - rank))
            .collect()
    });
    scored.collect()
}

/// The least loaded of `candidates`; of several, the first.
fn emptiest(loads: &[usize], candidates: impl Iterator<Item = usize>) -> Option<usize> {
    candidates.min_by_key(|&node| loads[node])
}

/// For each address what was wished, or else the home it had, or the emptiest
/// node; then as few are moved as make the loads even.
fn homes(nodes: usize, wishes: &[Vec<usize>], known: &[Option<usize>]) -> Vec<Vec<usize>> {
    let mut orders = wishes.to_vec();
    let mut loads = vec![0; nodes];
    for (order, known) in orders.iter_mut().zip(known) {
        if order.is_empty() {
            order.extend(known);
        }
        if let Some(&home) = order.first() {
            loads[home] += 1;
        }
    }
    for order in orders.iter_mut().filter(|order| order.is_empty()) {
        if let Some(home) = emptiest(&loads, 0..nodes) {
            loads[home] += 1;
            order.push(home);
        }
    }
    while let Some(to) = emptiest(&loads, 0..nodes) {
        // The last one of the fullest node that may move; none may that was
        // wished where it is.
        let free = (0..orders.len()).filter(|&vip| wishes[vip].is_empty());
        let fullest = free.max_by_key(|&vip| (loads[orders[vip][0]], vip));
        let Some(vip) = fullest.filter(|&vip| loads[orders[vip][0]] > loads[to] + 1) else {
            break;
        };
        loads[orders[vip][0]] -= 1;
        loads[to] += 1;
        orders[vip] = vec![to];
    }
    orders
}

/// For each address an order of all nodes that begins with its home, and with
/// what else was wished.
fn orders(nodes: usize, homes: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut orders = homes;
    // With k nodes lost, an address whose first k choices are the lost ones
    // needs its next one: for every set of k lost nodes, the emptiest of the
    // others. Sets of more than two are left to the ring below.
    for lost in sets(nodes, 1).into_iter().chain(sets(nodes, 2)) {
        let mut loads = vec![0; nodes];
        for order in &orders {
            if let Some(&node) = order.iter().find(|node| !lost.contains(node)) {
                loads[node] += 1;
            }
        }
        for order in &mut orders {
            if order.len() == lost.len() && order.iter().all(|node| lost.contains(node)) {
                let ring = (1..nodes).map(|step| (order[0] + step) % nodes);
                if let Some(next) = emptiest(&loads, ring.filter(|node| !lost.contains(node))) {
                    loads[next] += 1;
                    order.push(next);
                }
            }
        }
    }
    for order in &mut orders {
        for node in 0..nodes {
            let node = (order[0] + node) % nodes;
            if !order.contains(&node) {
                order.push(node);
            }
        }
    }
    orders
}

/// The sets of one or two nodes that leave at least one.
fn sets(nodes: usize, size: usize) -> Vec<Vec<usize>> {
    if nodes <= size {
        return Vec::new();
    }
    match size {
        1 => (0..nodes).map(|a| vec![a]).collect(),
        _ => (0..nodes)
            .flat_map(|a| (a + 1..nodes).map(move |b| vec![a, b]))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The orders in a cluster that is made.
    fn fresh(nodes: usize, wishes: &[Vec<usize>]) -> Vec<Vec<usize>> {
        orders(nodes, homes(nodes, wishes, &vec![None; wishes.len()]))
    }

    fn spread(orders: &[Vec<usize>], nodes: usize, lost: &[usize]) -> usize {
        let mut loads = vec![0usize; nodes];
        for order in orders {
            let node = order.iter().find(|node| !lost.contains(node)).unwrap();
            loads[*node] += 1;
        }
        let alive = (0..nodes).filter(|node| !lost.contains(node));
        let alive: Vec<usize> = alive.map(|node| loads[node]).collect();
        alive.iter().max().unwrap() - alive.iter().min().unwrap()
    }

    #[test]
    fn an_order_names_every_node_once() {
        for nodes in 1..8 {
            for order in fresh(nodes, &vec![Vec::new(); 17]) {
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..nodes).collect::<Vec<_>>(), "{order:?}");
            }
        }
    }

    #[test]
    fn any_single_failure_leaves_the_load_within_one() {
        for nodes in 2..9 {
            for vips in 1..33 {
                let orders = fresh(nodes, &vec![Vec::new(); vips]);
                assert!(spread(&orders, nodes, &[]) <= 1);
                for lost in 0..nodes {
                    assert!(
                        spread(&orders, nodes, &[lost]) <= 1,
                        "{nodes} {vips} {lost}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_wish_comes_first() {
        let orders = fresh(3, &[vec![2, 0], vec![]]);
        assert_eq!(orders[0], [2, 0, 1]);
        assert_eq!(orders[1][0], 0);
    }

    /// A node that comes takes its share and moves nothing else; one that goes
    /// leaves its share and moves nothing else.
    #[test]
    fn a_node_that_comes_or_goes_moves_its_share() {
        for nodes in 1..8 {
            for vips in 0..25 {
                let none = vec![Vec::new(); vips];
                let before = homes(nodes, &none, &vec![None; vips]);
                let known = |orders: &[Vec<usize>]| -> Vec<Option<usize>> {
                    orders.iter().map(|order| order.first().copied()).collect()
                };
                let more = homes(nodes + 1, &none, &known(&before));
                assert!(spread(&more, nodes + 1, &[]) <= 1, "{nodes} {vips}");
                let moved = before.iter().zip(&more).filter(|(a, b)| a != b).count();
                assert_eq!(moved, vips / (nodes + 1), "{nodes} {vips}");
                assert_eq!(homes(nodes + 1, &none, &known(&more)), more);
                // The first one goes, so that the others have other numbers.
                let left: Vec<Option<usize>> = known(&more)
                    .iter()
                    .map(|home| home.and_then(|home| home.checked_sub(1)))
                    .collect();
                let less = homes(nodes, &none, &left);
                assert!(spread(&less, nodes, &[]) <= 1, "{nodes} {vips}");
                for (had, has) in left.iter().zip(&less) {
                    assert!(had.is_none_or(|had| has[0] == had), "{nodes} {vips}");
                }
            }
        }
    }
}
