//! Order: what of the garbage goes first, and how much of it at once. Pure.
//!
//! # Invariants
//! At each cut between two batches, what is left points at nothing that is gone: a thing that somebody names in the middle of a collection
//! is still whole. So whatever points goes before what it points at, and a circle of labels goes in one batch.

use std::collections::HashMap;

use super::mark::Marking;
use crate::db::Node;

/// The garbage of a marking in batches of about `size`.
pub(super) fn batches(marking: &Marking, size: usize) -> Vec<Vec<Node>> {
    let garbage = marking.garbage();
    let number: HashMap<&Node, usize> = garbage.iter().enumerate().map(|(n, node)| (*node, n)).collect();
    let targets: Vec<Vec<usize>> = garbage
        .iter()
        .map(|node| marking.targets(node).iter().filter_map(|target| number.get(target).copied()).collect())
        .collect();
    let order = pointers_first(&targets);
    let mut place = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, &n)| place[n] = at);
    // The last place that points at each thing; before that one only if there is a circle.
    let mut last = vec![0; order.len()];
    for (n, targets) in targets.iter().enumerate() {
        targets.iter().for_each(|&target| last[target] = last[target].max(place[n]));
    }
    let (mut batches, mut batch, mut pointed) = (Vec::new(), Vec::new(), 0);
    for (at, &n) in order.iter().enumerate() {
        batch.push(garbage[n].clone());
        pointed = pointed.max(last[n]);
        if batch.len() >= size && pointed <= at {
            batches.push(std::mem::take(&mut batch));
        }
    }
    batches.extend((!batch.is_empty()).then_some(batch));
    batches
}

/// A depth-first search from each, in the order opposite to that in which it leaves them.
fn pointers_first(targets: &[Vec<usize>]) -> Vec<usize> {
    let mut seen = vec![false; targets.len()];
    let mut left = Vec::with_capacity(targets.len());
    for start in 0..targets.len() {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        // Each with how many of its targets were looked at.
        let mut path = vec![(start, 0)];
        while let Some((at, looked)) = path.last_mut() {
            match targets[*at].get(*looked) {
                Some(&target) => {
                    *looked += 1;
                    if !std::mem::replace(&mut seen[target], true) {
                        path.push((target, 0));
                    }
                }
                None => {
                    left.push(*at);
                    path.pop();
                }
            }
        }
    }
    left.reverse();
    left
}

#[cfg(test)]
mod tests;
