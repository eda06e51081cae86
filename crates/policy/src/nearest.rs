//! The known word nearest to one that is not known.

/// Longest words that are compared, in bytes: beyond that, nobody mistypes one character.
const COMPARED_BYTES_MAX: usize = 64;

/// The candidate that is fewest edits away from `word` (insert, delete, replace, swap neighbours), if that is near enough
/// to be a slip: one edit for short words, a third of the length for long ones.
/// Of equals, one that begins with the same letter (people rarely mistype that), else the first one.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let allowed = (word.len() / 3).max(1);
    let mut best: Option<((usize, bool), &str)> = None;
    for candidate in candidates {
        if candidate.len().abs_diff(word.len()) > allowed || candidate == word {
            continue;
        }
        let edits = distance(word.as_bytes(), candidate.as_bytes());
        let rank = (edits, candidate.bytes().next() != word.bytes().next());
        if edits <= allowed && best.is_none_or(|(fewest, _)| rank < fewest) {
            best = Some((rank, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Edits between two short words, swaps of neighbours counted as one (optimal string alignment), ASCII case ignored.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let width = b.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    let mut row: Vec<usize> = vec![0; width];
    for (i, x) in a.iter().enumerate() {
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(!x.eq_ignore_ascii_case(y));
            let mut fewest = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                fewest = fewest.min(before[j - 1] + 1);
            }
            row[j + 1] = fewest;
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["web", "db", "office", "postgres"];
        assert_eq!(nearest("wbe", known), Some("web"));
        assert_eq!(nearest("offcie", known), Some("office"));
        assert_eq!(nearest("postgress", known), Some("postgres"));
        assert_eq!(nearest("ab", known), Some("db"));
        assert_eq!(nearest("cache", known), None);
        assert_eq!(nearest(&"x".repeat(100), known), None);
    }
}
