//! Finding what uses itself by way of others.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// What each thing uses.
pub(crate) type Uses<T> = BTreeMap<T, Vec<T>>;

/// A way from a thing by what it uses back to itself, or `None` if there is none. The first and the last are the same.
pub(crate) fn find<T: Ord>(uses: &Uses<T>) -> Option<Vec<&T>> {
    let mut done = BTreeSet::new();
    uses.keys().find_map(|thing| from(thing, uses, &mut Vec::new(), &mut done))
}

/// Goes from a thing to all that it uses, and ends where it comes back to one that is under way.
fn from<'t, T: Ord>(
    thing: &'t T,
    uses: &'t Uses<T>,
    under_way: &mut Vec<&'t T>,
    done: &mut BTreeSet<&'t T>,
) -> Option<Vec<&'t T>> {
    if let Some(begin) = under_way.iter().position(|other| *other == thing) {
        return Some(under_way[begin..].iter().copied().chain([thing]).collect());
    }
    if !done.insert(thing) {
        return None;
    }
    under_way.push(thing);
    let next = uses.get(thing).into_iter().flatten();
    let found = next.into_iter().find_map(|next| from(next, uses, under_way, done));
    under_way.pop();
    found
}
