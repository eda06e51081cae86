//! Plain lists: one address or prefix a line, as feeds have them. `#` and `;` begin comments.

use image::AddressSet;

use crate::prefix::{BadPrefix, Prefix};

/// Addresses and prefixes of one list at most.
pub const LINES_MAX: u32 = 2_000_000;
/// Faults of one list that are told; further ones are counted.
const FAULTS_MAX: usize = 10;

/// What a plain list says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// The addresses.
    pub addresses: AddressSet,
    /// How many lines named them.
    pub lines: u32,
}

/// One line that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong.
    pub fault: LineFault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// The prefix.
    #[error(transparent)]
    Prefix(#[from] BadPrefix),
    /// There is more than a prefix.
    #[error("there is more than one word; comments begin with '#'")]
    Words,
    /// It is no text.
    #[error("it is not UTF-8")]
    Bytes,
}

/// Why there is no list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadList {
    /// Lines that are wrong.
    #[error("{}: {}", where_wrong(*.count, .first.line), .first.fault)]
    Lines {
        /// The first one.
        first: BadLine,
        /// Those after it, as far as they are told.
        more: Vec<BadLine>,
        /// How many there are.
        count: u64,
    },
    /// Nothing is in it. A list that denies nobody is removed, not imported: a download that failed is empty too.
    #[error("there is no address in it")]
    Empty,
    /// There is too much in it.
    #[error("it has more than {LINES_MAX} addresses and prefixes")]
    TooLong,
}

/// Which lines are wrong, without what is in them.
pub fn where_wrong(count: u64, first: u64) -> String {
    match count {
        1 => format!("line {first} is wrong"),
        more => format!("{more} lines are wrong, the first is line {first}"),
    }
}

impl Plain {
    /// Reads a list. `progress` is told now and then how many bytes have been read.
    ///
    /// # Errors
    /// [`BadList`], with every line that is wrong.
    pub fn parse(bytes: &[u8], mut progress: impl FnMut(usize)) -> Result<Self, BadList> {
        let mut prefixes = Vec::new();
        let mut faults = Faults::default();
        let mut lines = 0u32;
        let mut read = 0;
        for (number, line) in (1u64..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
            read += line.len();
            if number % 65_536 == 0 {
                progress(read);
            }
            match prefix(line) {
                Ok(None) => {}
                Ok(Some(prefix)) => {
                    lines += 1;
                    if lines > LINES_MAX {
                        return Err(BadList::TooLong);
                    }
                    prefixes.push((prefix.address, prefix.bits));
                }
                Err(fault) => faults.add(BadLine { line: number, fault }),
            }
        }
        progress(bytes.len());
        faults.none()?;
        if prefixes.is_empty() {
            return Err(BadList::Empty);
        }
        Ok(Self { addresses: AddressSet::from_prefixes(prefixes), lines })
    }
}

/// The prefix of a line, if it has one.
fn prefix(line: &[u8]) -> Result<Option<Prefix>, LineFault> {
    let comment = line.iter().position(|&byte| byte == b'#' || byte == b';');
    let line = line.get(..comment.unwrap_or(line.len())).unwrap_or_default().trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    if line.iter().any(u8::is_ascii_whitespace) {
        return Err(LineFault::Words);
    }
    let text = std::str::from_utf8(line).map_err(|_bytes| LineFault::Bytes)?;
    Ok(Some(text.parse()?))
}

#[derive(Default)]
struct Faults {
    told: Vec<BadLine>,
    count: u64,
}

impl Faults {
    fn add(&mut self, bad: BadLine) {
        self.count += 1;
        if self.told.len() < FAULTS_MAX {
            self.told.push(bad);
        }
    }

    fn none(mut self) -> Result<(), BadList> {
        if self.told.is_empty() {
            return Ok(());
        }
        let first = self.told.remove(0);
        Err(BadList::Lines { first, more: self.told, count: self.count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lists_are_read() {
        let text = b"# a feed\n\n192.0.2.0/25\r\n 192.0.2.128/25 # the other half\n2001:db8::/32 ; SBL1\n192.0.2.7";
        let plain = Plain::parse(text, |_| ()).unwrap();
        assert_eq!(plain.lines, 4);
        assert_eq!(plain.addresses.ranges().count(), 2);
    }

    #[test]
    fn every_line_that_is_wrong_is_told_and_counted() {
        let text = "192.0.2.1\nexample.org\n10.0.0.1/8\n192.0.2.1 192.0.2.2\n0.0.0.0\n";
        let Err(BadList::Lines { first, more, count }) = Plain::parse(text.as_bytes(), |_| ())
        else {
            panic!("the list is wrong");
        };
        assert_eq!((first.line, count), (2, 4));
        assert_eq!(more.iter().map(|bad| bad.line).collect::<Vec<_>>(), [3, 4, 5]);
        let many = "nobody\n".repeat(1000);
        let Err(BadList::Lines { more, count, .. }) = Plain::parse(many.as_bytes(), |_| ()) else {
            panic!("the list is wrong");
        };
        assert_eq!((more.len(), count), (FAULTS_MAX - 1, 1000));
        assert_eq!(
            Plain::parse(b"\xff\n", |_| ()).unwrap_err().to_string(),
            "line 1 is wrong: it is not UTF-8"
        );
    }

    #[test]
    fn an_empty_list_is_an_error() {
        for text in ["", "\n\n", "# nothing\n"] {
            assert_eq!(Plain::parse(text.as_bytes(), |_| ()), Err(BadList::Empty));
        }
    }

    #[test]
    fn a_list_is_as_long_as_is_said() {
        let line = "::1\n";
        let most = line.repeat(LINES_MAX as usize);
        let mut told = 0;
        assert_eq!(Plain::parse(most.as_bytes(), |read| told = read).unwrap().lines, LINES_MAX);
        assert_eq!(told, most.len());
        assert_eq!(Plain::parse((most + line).as_bytes(), |_| ()), Err(BadList::TooLong));
    }
}
