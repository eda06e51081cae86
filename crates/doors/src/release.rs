//! Which Linux runs.

use rustix::system::uname;

/// The running kernel's release: major and minor number. Zeros where it has another form than Linux gives it, so that
/// nothing is held to be there that came with some release.
pub fn release() -> (u32, u32) {
    parse(&uname().release().to_string_lossy())
}

fn parse(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_numbers_count() {
        assert_eq!(parse("6.12.107+deb13-cloud-amd64"), (6, 12));
        assert_eq!(parse("7.3"), (7, 3));
        assert_eq!(parse("next-20260101"), (0, 0));
    }
}
