//! Which node each address prefers.
//!
//! Balanced: every address has one home, spread as evenly as possible, and
//! Pacemaker's own `placement-strategy=balanced` finds the emptiest node for
//! the addresses whose home is lost. Deterministic: every address has an order
//! of all nodes, made so that any single failure leaves the load within one,
//! and any double failure as even as the orders chosen so far allow.

use crate::cluster::{Cluster, Placement};

/// A node and the score an address has for it; higher is better.
pub type Preference<'a> = (&'a str, usize);

/// The preferences of each address, in the order of `cluster.vips`.
pub fn preferences(cluster: &Cluster) -> Vec<Vec<Preference<'_>>> {
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
    let orders = match cluster.placement {
        Placement::Balanced => homes(nodes.len(), &wishes),
        Placement::Deterministic => orders(nodes.len(), &wishes),
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

/// For each address what was wished, or else the emptiest node.
fn homes(nodes: usize, wishes: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut orders = wishes.to_vec();
    let mut loads = vec![0; nodes];
    for order in orders.iter().filter(|order| !order.is_empty()) {
        loads[order[0]] += 1;
    }
    for order in orders.iter_mut().filter(|order| order.is_empty()) {
        if let Some(home) = emptiest(&loads, 0..nodes) {
            loads[home] += 1;
            order.push(home);
        }
    }
    orders
}

/// For each address an order of all nodes that begins with what was wished.
fn orders(nodes: usize, wishes: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut orders = homes(nodes, wishes);
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
            for order in orders(nodes, &vec![Vec::new(); 17]) {
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
                let orders = orders(nodes, &vec![Vec::new(); vips]);
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
        let orders = orders(3, &[vec![2, 0], vec![]]);
        assert_eq!(orders[0], [2, 0, 1]);
        assert_eq!(orders[1][0], 0);
    }
}
