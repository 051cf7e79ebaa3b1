//! Records side by side, in which a text is looked for: none waits for what the one before it has to find
//! out, and the text stays in registers.
//!
//! This file is one of those that may hold `unsafe`: each block says why it is sound.

#[cfg(target_arch = "x86_64")]
use super::super::compare::Vectors;
use super::super::compare::{Compare, TEXT_BYTES, Words};
use super::super::masks::{BEHIND, Isa, Masks, Stops};
use super::tree::{End, Field, Until};
use crate::source::Span;

/// Records that are side by side, at most.
pub(super) const LANES: usize = 64;

/// A set of them: bit `i` is that of record `i`.
pub(super) type Set = u64;

/// Behind all places.
const NOWHERE: usize = u32::MAX as usize;

/// Short strings are validated where they are.
const SHORT: usize = 32;

/// How lanes are led on: as long as all go one way, when most do, and when some do.
const ALL: u8 = 0;
const MOST: u8 = 1;
const SOME: u8 = 2;

/// Records of which some are looked at. There are masks for each of them, and [`TEXT_BYTES`] behind it.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    data: &'a [u8],
    records: &'a [Span],
    masks: &'a Masks,
    breaks: Stops<'a>,
    /// The last place where a text is looked for: in the stretch of the masks, with [`TEXT_BYTES`] behind it.
    last_at: usize,
}

/// Those that are looked at.
#[derive(Debug)]
pub(super) struct Lanes {
    count: usize,
    /// They are the first records, in their order, whatever `record` says.
    is_dense: bool,
    record: [u8; LANES],
    /// Where the next text is to stand in each: not before the record, and perhaps far behind it.
    at: [u32; LANES],
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            is_dense: true,
            record: [0; LANES],
            at: [0; LANES],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Those in `set`, which are all lanes, are looked at no more.
    pub(super) fn remove(&mut self, set: Set) {
        if set.count_ones() as usize == self.count {
            self.count = 0;
        } else if set != 0 {
            self.number();
            let mut kept = 0;
            for i in 0..self.count {
                (self.record[kept], self.at[kept]) = (self.record[i], self.at[i]);
                kept += usize::from(set >> self.record[i] & 1 == 0);
            }
            self.count = kept;
        }
    }

    fn number(&mut self) {
        if self.is_dense {
            self.record = std::array::from_fn(|i| i as u8);
            self.is_dense = false;
        }
    }
}

impl<'a> Beside<'a> {
    /// The first of `records` of `data`, up to one that is empty or cannot be looked at.
    #[inline(always)]
    pub(super) fn new(data: &'a [u8], records: &'a [Span], masks: &'a Masks) -> Self {
        let stretch = masks.stretch();
        let last_at = stretch.end.min(data.len().saturating_sub(TEXT_BYTES));
        // A place in the stretch, or at a text behind it, is a number of 32 bits.
        let can = stretch.end < NOWHERE - BEHIND;
        let is_in = |record: &&Span| {
            let (start, end) = (record.start as usize, record.end as usize);
            start < end && start >= stretch.start && end <= last_at && can
        };
        let count = records.iter().take(LANES).take_while(is_in).count();
        Self {
            data,
            records: &records[..count],
            masks,
            breaks: masks.breaks(),
            last_at,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Those records that are in `set`, at their start. There are some.
    pub(super) fn begin(&self, set: Set, lanes: &mut Lanes) {
        let set = set & (Set::MAX >> (LANES - self.len()));
        lanes.count = set.count_ones() as usize;
        lanes.is_dense = set & set.wrapping_add(1) == 0;
        if lanes.is_dense {
            let starts = lanes.at.iter_mut().zip(&self.records[..lanes.count]);
            starts.for_each(|(at, record)| *at = record.start);
        } else {
            for (lane, i) in numbers(set).enumerate() {
                (lanes.record[lane], lanes.at[lane]) = (i as u8, self.records[i].start);
            }
        }
    }

    /// Leads those of `from` in which a field's text stands to the next text, in `to`. Notes the values in
    /// `places`, which begins with the first record's; what it notes for others will be noted again. `is_mixed`:
    /// there may be many others.
    #[inline(always)]
    pub(super) fn lead(
        &self,
        field: &Field,
        is_mixed: bool,
        from: &mut Lanes,
        to: &mut Lanes,
        places: &mut [Span],
    ) {
        let is_string = field.until == Until::Stop && field.bytes == 0;
        match (self.masks.is_all_ascii(), is_string) {
            (true, true) => self.lead_of::<true, true>(field, is_mixed, from, to, places),
            (true, false) => self.lead_of::<true, false>(field, is_mixed, from, to, places),
            (false, true) => self.lead_of::<false, true>(field, is_mixed, from, to, places),
            (false, false) => self.lead_of::<false, false>(field, is_mixed, from, to, places),
        }
    }

    /// `ASCII`: all records are. `STRING`: the values are strings.
    #[inline(always)]
    fn lead_of<const ASCII: bool, const STRING: bool>(
        &self,
        field: &Field,
        is_mixed: bool,
        from: &mut Lanes,
        to: &mut Lanes,
        places: &mut [Span],
    ) {
        let places = &mut places[..self.records.len()];
        (to.count, to.is_dense) = (0, from.is_dense);
        if is_mixed {
            from.number();
            return self.look::<SOME, ASCII, STRING>(field, from, to, places);
        }
        if from.is_dense {
            self.look::<ALL, ASCII, STRING>(field, from, to, places);
            if to.count == from.count {
                return;
            }
        }
        from.number();
        to.number();
        self.look::<MOST, ASCII, STRING>(field, from, to, places);
    }

    fn look<const WAY: u8, const ASCII: bool, const STRING: bool>(
        &self,
        field: &Field,
        from: &Lanes,
        to: &mut Lanes,
        places: &mut [Span],
    ) {
        match self.masks.isa() {
            // SAFETY: the processor has the features, or `Isa::all` would not have listed it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => unsafe {
                self.look_avx2::<WAY, ASCII, STRING>(field, from, to, places);
            },
            _ => self.look_with::<Words, WAY, ASCII, STRING>(field, from, to, places),
        }
    }

    /// The same, compiled for the vectors and bit operations of newer processors.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn look_avx2<const WAY: u8, const ASCII: bool, const STRING: bool>(
        &self,
        field: &Field,
        from: &Lanes,
        to: &mut Lanes,
        places: &mut [Span],
    ) {
        self.look_with::<Vectors, WAY, ASCII, STRING>(field, from, to, places);
    }

    #[inline(always)]
    fn look_with<C: Compare, const WAY: u8, const ASCII: bool, const STRING: bool>(
        &self,
        field: &Field,
        from: &Lanes,
        to: &mut Lanes,
        places: &mut [Span],
    ) {
        match WAY {
            ALL => self.all::<C, ASCII, STRING>(field, from, to, places),
            MOST => self.most::<C, ASCII, STRING>(field, from, to, places),
            _ => self.some::<C, ASCII, STRING>(field, from, to, places),
        }
    }

    /// Up to the first lane that goes another way. They are dense.
    #[inline(always)]
    fn all<C: Compare, const ASCII: bool, const STRING: bool>(
        self,
        field: &Field,
        from: &Lanes,
        to: &mut Lanes,
        places: &mut [Span],
    ) {
        let text = C::load(&field.text);
        let lanes = from.at[..from.count].iter().zip(&mut to.at);
        let lanes = lanes.zip(places.iter_mut().zip(self.records));
        to.count = from.count;
        for (i, ((at, next), (place, record))) in lanes.enumerate() {
            let at = *at as usize;
            if at > self.last_at || !C::stands(text, self.text_at(at)) {
                to.count = i;
                break;
            }
            (*place, *next) = self.value::<ASCII, STRING>(field, at, record);
        }
    }

    /// Those behind the lanes that are there already.
    #[inline(always)]
    fn most<C: Compare, const ASCII: bool, const STRING: bool>(
        self,
        field: &Field,
        from: &Lanes,
        to: &mut Lanes,
        places: &mut [Span],
    ) {
        let text = C::load(&field.text);
        let left = to.count..from.count;
        let mut kept = to.count;
        for (at, record) in from.at[left.clone()].iter().zip(&from.record[left]) {
            let (at, row) = (*at as usize, usize::from(*record));
            if at <= self.last_at && C::stands(text, self.text_at(at)) {
                let record = &self.records[row];
                (places[row], to.at[kept]) = self.value::<ASCII, STRING>(field, at, record);
                to.record[kept] = row as u8;
                kept += 1;
            }
        }
        to.count = kept;
    }

    /// First which lanes they are, without a branch: nobody could guess it.
    #[inline(always)]
    fn some<C: Compare, const ASCII: bool, const STRING: bool>(
        self,
        field: &Field,
        from: &Lanes,
        to: &mut Lanes,
        places: &mut [Span],
    ) {
        let text = C::load(&field.text);
        let mut kept = 0;
        for (at, record) in from.at[..from.count].iter().zip(&from.record) {
            let place = *at as usize;
            if place <= self.last_at {
                (to.at[kept], to.record[kept]) = (*at, *record);
                kept += usize::from(C::stands(text, self.text_at(place)));
            }
        }
        to.is_dense &= kept == from.count;
        to.count = kept;
        for (at, record) in to.at[..kept].iter_mut().zip(&to.record) {
            let row = usize::from(*record);
            let record = &self.records[row];
            (places[row], *at) = self.value::<ASCII, STRING>(field, *at as usize, record);
        }
    }

    /// The bytes at `at`, at most the last place.
    #[inline(always)]
    fn text_at(self, at: usize) -> &'a [u8; TEXT_BYTES] {
        debug_assert!(at <= self.last_at && at + TEXT_BYTES <= self.data.len());
        // SAFETY: all callers have compared it with the last place, behind which there are so many bytes: where
        // there are less in all, there are no records.
        unsafe { &*self.data.as_ptr().add(at).cast() }
    }

    /// The value behind a field's text at `at`, at most the last place, and where the next text is to stand.
    /// What does not end within the record goes wrong at its end: no place is before the last.
    #[inline(always)]
    fn value<const ASCII: bool, const STRING: bool>(
        self,
        field: &Field,
        at: usize,
        record: &Span,
    ) -> (Span, u32) {
        let from = at + field.length as usize;
        let bytes = field.bytes as usize;
        let (to, next) = match field.until {
            _ if STRING => {
                let stop = self.stop::<ASCII>(from);
                (stop, stop)
            }
            Until::Stop => {
                let to = self.stop::<ASCII>(from).wrapping_sub(bytes).max(from);
                (to, to)
            }
            Until::End => {
                let to = (record.end as usize).wrapping_sub(bytes).max(from);
                (to, to)
            }
            Until::Length => (from + bytes, from),
        };
        let value = Span {
            start: from as u32,
            end: to as u32,
        };
        (value, next as u32)
    }

    /// Where the string ends that begins at `from`, a text behind a place; [`NOWHERE`] if it is not UTF-8.
    #[inline(always)]
    fn stop<const ASCII: bool>(self, from: usize) -> usize {
        // SAFETY: no text is longer than what the masks allow behind their stretch, where the last place is; none
        // is before the records, all of which are in the stretch.
        match unsafe { self.breaks.near_to(from) } {
            Some(found) if ASCII || self.data.get(found).is_some_and(u8::is_ascii) => found,
            _ => far_stop(self.data, self.masks, from),
        }
    }

    /// Those of `lanes` that end with a text: records.
    pub(super) fn end(&self, end: &End, lanes: &Lanes) -> Set {
        match self.masks.isa() {
            // SAFETY: the processor has the features, or `Isa::all` would not have listed it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => unsafe { self.end_avx2(end, lanes) },
            _ => self.end_with::<Words>(end, lanes),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn end_avx2(&self, end: &End, lanes: &Lanes) -> Set {
        self.end_with::<Vectors>(end, lanes)
    }

    #[inline(always)]
    fn end_with<C: Compare>(self, end: &End, lanes: &Lanes) -> Set {
        let (text, length) = (C::load(&end.text), end.length as usize);
        let is_end = |at: &u32, record: &Span| {
            let at = *at as usize;
            at + length == record.end as usize && C::stands(text, self.text_at(at))
        };
        let (at, mut ended) = (&lanes.at[..lanes.count], 0);
        if lanes.is_dense {
            for (i, (at, record)) in at.iter().zip(self.records).enumerate() {
                ended |= Set::from(is_end(at, record)) << i;
            }
        } else {
            for (at, i) in at.iter().zip(&lanes.record) {
                ended |= Set::from(is_end(at, &self.records[usize::from(*i)])) << i;
            }
        }
        ended
    }
}

/// The records in a set.
#[inline(always)]
pub(super) fn numbers(mut set: Set) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let number = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        number
    })
}

/// Where a string ends that is long or not ASCII.
#[cold]
#[inline(never)]
fn far_stop(data: &[u8], masks: &Masks, from: usize) -> usize {
    let first = masks.breaks().next(from).max(from);
    if data.get(first).is_none_or(u8::is_ascii) {
        return first;
    }
    let stop = masks.stop(first);
    let is_utf8 = data.get(first..stop).is_some_and(|text| match text.len() {
        0..SHORT => std::str::from_utf8(text).is_ok(),
        _ => simdutf8::basic::from_utf8(text).is_ok(),
    });
    if is_utf8 { stop } else { NOWHERE }
}
