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
/// The last one has no end: by then somebody plans again, and if nobody does, what it denies stays denied. The end
/// `must`, of a policy that waits to be confirmed, is always among those that are kept: ends before it are left out for
/// it. `most` is 2 or more.
///
/// # Errors
/// If what is in force now cannot be made, or what is after `must`. Where another successor cannot be made, the plan
/// ends before it.
pub fn plan<T, E>(
    now: &Moment,
    most: usize,
    must: Option<u64>,
    mut make: impl FnMut(&Moment) -> Result<(T, Option<u64>), E>,
) -> Result<Vec<Planned<T>>, E> {
    let must = must.filter(|&must| must > now.boottime_ns);
    let (what, mut next) = make(now)?;
    let mut planned = vec![Planned { what, until: None }];
    let mut at = now.boottime_ns;
    while planned.len() < most {
        let awaited = must.filter(|&must| must > at);
        let last_place = planned.len() + 1 == most;
        let next_end = next.into_iter().filter(|&end| end > at).chain(awaited).min();
        let Some(end) = awaited.filter(|_| last_place).or(next_end) else { break };
        match make(&now.later(end)) {
            Ok((what, following)) => {
                if let Some(last) = planned.last_mut() {
                    last.until = Some(end);
                }
                planned.push(Planned { what, until: None });
                (at, next) = (end, following);
            }
            Err(error) if awaited.is_some() => return Err(error),
            Err(_) => break,
        }
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
        planned_with(ends, most, None, fails_from).expect("a plan")
    }

    fn planned_with(
        ends: &[u64],
        most: usize,
        must: Option<u64>,
        fails_from: u64,
    ) -> Result<Vec<(usize, Option<u64>)>, ()> {
        let make = |moment: &Moment| {
            let passed = ends.iter().filter(|&&end| end <= moment.boottime_ns).count();
            if moment.boottime_ns >= fails_from {
                Err(())
            } else {
                Ok((passed, ends.get(passed).copied()))
            }
        };
        let planned = plan(&now(), most, must, make)?;
        Ok(planned.into_iter().map(|planned| (planned.what, planned.until)).collect())
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
        assert_eq!(plan(&now(), 3, None, |_| Err::<((), _), _>("no")), Err("no"));
    }

    #[test]
    fn the_end_of_a_trial_is_never_left_out() {
        let with = |ends: &[u64], must| planned_with(ends, 3, Some(must), u64::MAX).unwrap();
        let kept = |ends: &[u64], must| {
            with(ends, must).iter().map(|(_, until)| *until).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[], 500), [Some(500), None]);
        assert_eq!(kept(&[200], 500), [Some(200), Some(500), None]);
        assert_eq!(kept(&[200, 300, 400], 500), [Some(200), Some(500), None]);
        assert_eq!(with(&[200, 300, 400], 500).last(), Some(&(3, None)));
        assert_eq!(kept(&[600, 700], 500), [Some(500), Some(600), None]);
        assert_eq!(kept(&[500], 500), [Some(500), None]);
        assert_eq!(kept(&[], 50), [None], "one that is over is no end");
        assert_eq!(planned_with(&[200], 3, Some(500), 300), Err(()), "or it would not be kept");
    }

    #[test]
    fn the_wall_goes_on_with_the_boot() {
        let later = now().later(5_000_000_100);
        assert_eq!(later.wall, Timestamp::from_second(5).unwrap());
        assert_eq!(later.boottime_ns, 5_000_000_100);
    }
}
