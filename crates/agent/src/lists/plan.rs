//! What is in force until when: one image for each time between ends, as far as the kernel holds them.

use super::Moment;

/// Something in force, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned<T> {
    /// What is in force.
    pub what: T,
    /// Until when, in nanoseconds of `CLOCK_BOOTTIME`; `None` for the last one.
    pub until: Option<u64>,
}

/// What is in force now and after each of the next ends, at most `most` of them. `make` says what is in force at a
/// moment, and its next end by `CLOCK_BOOTTIME`.
///
/// The last one has no end: by then somebody plans again, and if nobody does, what it denies stays denied. The same
/// holds for one whose successor cannot be made.
///
/// # Errors
/// If what is in force now cannot be made.
pub fn plan<T, E>(
    now: &Moment,
    most: usize,
    mut make: impl FnMut(&Moment) -> Result<(T, Option<u64>), E>,
) -> Result<Vec<Planned<T>>, E> {
    let (what, mut until) = make(now)?;
    let mut planned = vec![Planned { what, until: None }];
    while planned.len() < most
        && let Some(end) = until
        && let Ok((what, next)) = make(&now.later(end))
    {
        if let Some(last) = planned.last_mut() {
            last.until = Some(end);
        }
        planned.push(Planned { what, until: None });
        until = next.filter(|&next| next > end);
    }
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn now() -> Moment {
        Moment { wall: Timestamp::UNIX_EPOCH, boottime_ns: 100, boot: "boot".to_owned() }
    }

    /// In force is the number of ends that have passed.
    fn planned(ends: &[u64], most: usize, fails_from: u64) -> Vec<(usize, Option<u64>)> {
        let make = |moment: &Moment| {
            let passed = ends.iter().filter(|&&end| end <= moment.boottime_ns).count();
            if moment.boottime_ns >= fails_from {
                Err(())
            } else {
                Ok((passed, ends.get(passed).copied()))
            }
        };
        let planned = plan(&now(), most, make).unwrap();
        planned.into_iter().map(|planned| (planned.what, planned.until)).collect()
    }

    #[test]
    fn each_end_has_what_follows_it() {
        const NEVER: u64 = u64::MAX;
        assert_eq!(planned(&[], 3, NEVER), [(0, None)]);
        assert_eq!(planned(&[200], 3, NEVER), [(0, Some(200)), (1, None)]);
        assert_eq!(
            planned(&[200, 300, 400], 3, NEVER),
            [(0, Some(200)), (1, Some(300)), (2, None)]
        );
        assert_eq!(planned(&[200, 300], 1, NEVER), [(0, None)]);
        assert_eq!(planned(&[200, 300], 3, 300), [(0, Some(200)), (1, None)]);
        assert_eq!(plan(&now(), 3, |_| Err::<((), _), _>("no")), Err("no"));
    }

    #[test]
    fn the_wall_goes_on_with_the_boot() {
        let later = now().later(5_000_000_100);
        assert_eq!(later.wall, Timestamp::from_second(5).unwrap());
        assert_eq!(later.boottime_ns, 5_000_000_100);
    }
}
