//! How many records there were of each kind, whoever loaded the programs that counted them.
//!
//! The programs of a set count for themselves, and begin at zero. What the sets before theirs had counted is pinned
//! beside their maps, in a map that they do not know: only the sensor's process writes it, so that nothing is added to
//! while it is written, and it goes when the set goes. It is one value, so that one call replaces all of it.
//!
//! Programs of two builds run beside each other for a while and count the same records, each of them. What the new ones
//! counted until they were the only ones that are read is therefore taken off.

use std::path::Path;

use aya::maps::{Array, Map, MapData, MapError};
use treeline_abi::{Kind, Loss};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

use super::pins;

/// The name of the pin.
const NAME: &str = "CARRIED";

/// What is added for one kind of record to what the programs of the set count, and what is taken off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Row {
    /// What was counted before.
    created: u64,
    lost: u64,
    /// What the set's own programs counted while the ones before counted the same.
    twice_created: u64,
    twice_lost: u64,
}

const LEN: usize = size_of::<[Row; Kind::COUNT]>();

type Pinned = Array<MapData, [u8; LEN]>;

/// Records of one kind, all told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    /// What hooks set out to send.
    pub(super) created: u64,
    /// What found no room.
    pub(super) lost: u64,
}

impl Total {
    /// What was read, or waits to be: a sensor that ended took it from the rings, if it is not there any more.
    pub(super) fn not_lost(self) -> u64 {
        self.created.saturating_sub(self.lost)
    }
}

/// What the programs of a set do not know of the totals.
#[derive(Default)]
pub(super) struct Totals {
    rows: [Row; Kind::COUNT],
    /// None where nothing is pinned, or it cannot be: the totals end with this process then.
    pinned: Option<Pinned>,
}

impl Totals {
    /// Those of the set that pins its maps here. One without, which an earlier build has left, carries nothing.
    ///
    /// # Errors
    /// They are there and cannot be read.
    pub(super) fn of_set(set: &Path) -> Result<Self, MapError> {
        let path = pins::map_of(set, NAME);
        if !path.exists() {
            return Ok(Self::default());
        }
        let pinned: Pinned = Array::try_from(Map::Array(MapData::from_pin(path)?))?;
        let rows = <[Row; Kind::COUNT]>::read_from_bytes(&pinned.get(&0, 0)?).unwrap_or_default();
        Ok(Self { rows, pinned: Some(pinned) })
    }

    /// The same, to be written as well: the pin is made if it is not there.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn to_keep(set: &Path) -> Result<Self, MapError> {
        let path = pins::map_of(set, NAME);
        if !path.exists() {
            let made: Pinned = Array::create(1, 0)?;
            made.pin(path).map_err(|error| MapError::PinError { name: Some(NAME.to_owned()), error })?;
        }
        Self::of_set(set)
    }

    /// The total of a kind, by what the programs have counted.
    pub(super) fn of(&self, kind: Kind, counted: &Loss) -> Total {
        let row = &self.rows[kind as usize];
        Total {
            created: row.created + counted.created.saturating_sub(row.twice_created),
            lost: row.lost + counted.lost.saturating_sub(row.twice_lost),
        }
    }

    /// Goes on from the total that others have come to, when the set's own programs have counted this much.
    pub(super) fn go_on_from(&mut self, kind: Kind, total: Total, counted: &Loss) {
        self.rows[kind as usize] = Row {
            created: total.created,
            lost: total.lost,
            twice_created: counted.created,
            twice_lost: counted.lost,
        };
    }

    /// Adds what others have counted since.
    pub(super) fn add(&mut self, kind: Kind, more: Total) {
        let row = &mut self.rows[kind as usize];
        row.created += more.created;
        row.lost += more.lost;
    }

    /// Pins them, if that can be.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn save(&mut self) -> Result<(), MapError> {
        let Some(pinned) = &mut self.pinned else { return Ok(()) };
        let mut bytes = <[u8; LEN]>::new_zeroed();
        bytes.copy_from_slice(self.rows.as_bytes());
        pinned.set(0, bytes, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_have_counted_counts_once() {
        let counted = |created, lost| Loss { created, lost, ..Loss::default() };
        let mut totals = Totals::default();
        let check = |totals: &Totals, counted: &Loss, created, lost| {
            assert_eq!(totals.of(Kind::Open, counted), Total { created, lost }, "{counted:?}");
        };
        check(&totals, &counted(5, 1), 5, 1);
        totals.go_on_from(Kind::Open, Total { created: 100, lost: 10 }, &counted(5, 1));
        check(&totals, &counted(5, 1), 100, 10);
        check(&totals, &counted(8, 2), 103, 11);
        // What only the ones before have refused, or lost.
        totals.add(Kind::Open, Total { created: 3, lost: 1 });
        check(&totals, &counted(8, 2), 106, 12);
        assert_eq!(totals.of(Kind::Exec, &counted(1, 0)).not_lost(), 1);
        assert!(totals.save().is_ok(), "without a pin there is nothing to do");
    }

    #[test]
    fn a_third_goes_on_from_a_second() {
        let counted = |created| Loss { created, ..Loss::default() };
        let mut second = Totals::default();
        second.go_on_from(Kind::Exec, Total { created: 40, lost: 0 }, &counted(2));
        let mut third = Totals::default();
        third.go_on_from(Kind::Exec, second.of(Kind::Exec, &counted(12)), &counted(1));
        assert_eq!(third.of(Kind::Exec, &counted(4)), Total { created: 53, lost: 0 });
    }

    #[test]
    fn a_set_without_them_carries_nothing() {
        let set = tempfile::tempdir().expect("a temporary directory");
        let totals = Totals::of_set(set.path()).expect("nothing is there");
        assert_eq!(totals.of(Kind::Exit, &Loss::default()), Total::default());
    }
}
