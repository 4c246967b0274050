//! Did you mean: the known word nearest to a misspelt one.
//!
//! Nearness is Damerau's edit distance without case: a swap of neighbours (`FORM`) is one mistake.

/// The nearest of `known`, if at most a third of the word is wrong, and two letters.
pub(crate) fn nearest<'a, S: AsRef<str>>(word: &str, known: &'a [S]) -> Option<&'a str> {
    /// Longer words are no misspelling of any of ours.
    const MAX_WORD: usize = 64;
    if word.len() > MAX_WORD {
        return None;
    }
    let (distance, best) =
        known.iter().map(|k| (distance(word, k.as_ref()), k.as_ref())).min_by_key(|(d, _)| *d)?;
    (distance <= 2 && distance * 3 <= word.chars().count().max(3)).then_some(best)
}

fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
