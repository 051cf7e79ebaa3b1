//! The shapes that are known, and the way of records through them.

use super::super::compare::Text;
use super::super::number::Number;
use super::super::texts::Target;
use super::super::walk::{COLUMNS_MAX, Written};
use super::lanes::{Beside, Lanes, Set, numbers};
use super::{Group, NUMBERS_MAX};
use crate::source::Span;

/// Shapes that are known at most, and the texts of which they are made.
const SHAPES_MAX: usize = 64;
const TEXTS_MAX: usize = 4096;

/// A text and the value behind it. Behind all pieces of a text but the last is nothing, noted as an
/// empty value that nobody wants.
#[derive(Debug, Clone, PartialEq)]
#[repr(align(32))]
pub(super) struct Field {
    pub(super) text: Text,
    /// Of the text.
    pub(super) length: u32,
    pub(super) until: Until,
    /// See there.
    pub(super) bytes: u32,
    /// Where the column's values begin; values that nobody wants have a place too.
    pub(super) values: u32,
}

/// Where a value ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Until {
    /// So many bytes before the next stop: none for a string.
    Stop,
    /// So many bytes before the record's end.
    End,
    /// After so many bytes, which belong to the next text.
    Length,
}

/// What is behind a record's last value, and what the record has that is no string.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct End {
    pub(super) text: Text,
    /// Of the text.
    pub(super) length: u32,
    /// All numbers, also those that nobody wants: whether they are numbers is still to be seen.
    pub(super) numbers: Vec<Target>,
    /// The wanted `true`, `false` and `null`.
    pub(super) words: Vec<(Target, Written)>,
    /// The wanted columns that have no value.
    pub(super) missing: Vec<Target>,
}

/// What all records have in common that differ in the texts of strings and numbers only.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    pub(super) fields: Vec<Field>,
    pub(super) end: End,
}

/// Shapes, by what they begin with.
#[derive(Debug)]
pub(super) struct Tree {
    fields: Vec<Field>,
    ends: Vec<End>,
    /// What may follow: at a record's start, then behind each of the fields.
    places: Vec<Place>,
}

#[derive(Debug, Default)]
struct Place {
    /// The likeliest first.
    branches: Vec<Branch>,
    /// Of the last records many went another way than most.
    is_mixed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Branch {
    Field(usize),
    End(usize),
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            fields: Vec::new(),
            ends: Vec::new(),
            places: vec![Place::default()],
        }
    }

    #[cfg(test)]
    pub(super) fn shapes(&self) -> usize {
        self.ends.len()
    }

    /// Adds a shape, if it is not there yet. Where there is no room all others are forgotten.
    pub(super) fn add(&mut self, shape: Shape) {
        if self.ends.len() == SHAPES_MAX || self.fields.len() + shape.fields.len() > TEXTS_MAX {
            *self = Self::new();
        }
        let mut place = 0;
        for field in shape.fields {
            let mut fields = self.places[place].branches.iter().filter_map(|b| match b {
                Branch::Field(number) => Some(*number),
                Branch::End(_) => None,
            });
            let known = fields.find(|number| self.fields[*number] == field);
            let number = known.unwrap_or(self.fields.len());
            if known.is_none() {
                self.places[place].branches.push(Branch::Field(number));
                self.fields.push(field);
                self.places.push(Place::default());
            }
            place = number + 1;
        }
        let ends = &self.ends;
        let is_it = |b: &Branch| matches!(b, Branch::End(number) if ends[*number] == shape.end);
        let branches = &mut self.places[place].branches;
        if !branches.iter().any(is_it) {
            branches.push(Branch::End(ends.len()));
            self.ends.push(shape.end);
        }
    }
}

/// The way of some records through the tree.
pub(super) struct Descent<'a, 'b, 'c> {
    pub(super) tree: &'a mut Tree,
    pub(super) beside: Beside<'b>,
    pub(super) group: &'a mut Group<'c>,
}

impl Descent<'_, '_, '_> {
    /// Leads the first of `lanes`, which are at one place, on to where their records end, if they are of known
    /// shapes from there on: which are, with their values noted. There are as many lanes as the tree is deep.
    pub(super) fn from(&mut self, place: usize, lanes: &mut [Lanes]) -> Set {
        let Some((here, deeper)) = lanes.split_first_mut() else {
            return 0;
        };
        let Place { branches, is_mixed } = &self.tree.places[place];
        let (branches, is_mixed, all) = (branches.len(), *is_mixed, here.len());
        let (mut noted, mut most, mut likeliest) = (0, 0, 0);
        for i in 0..branches {
            let alike = match (self.tree.places[place].branches[i], deeper.first_mut()) {
                (Branch::End(number), _) => {
                    let end = &self.tree.ends[number];
                    let ended = self.beside.end(end, here);
                    self.group.note(end, self.beside.data(), ended)
                }
                (Branch::Field(number), Some(next)) => {
                    let field = &self.tree.fields[number];
                    let places = &mut self.group.spans[field.values as usize + self.group.row..];
                    self.beside.lead(field, is_mixed, here, next, places);
                    match next.is_empty() {
                        true => 0,
                        false => self.from(number + 1, deeper),
                    }
                }
                (Branch::Field(_), None) => 0,
            };
            noted |= alike;
            if branches == 1 {
                return noted;
            }
            let count = alike.count_ones() as usize;
            if count > most {
                (most, likeliest) = (count, i);
            }
            here.remove(alike);
            if here.is_empty() {
                break;
            }
        }
        let place = &mut self.tree.places[place];
        place.is_mixed = most < all - all / 8;
        if likeliest > 0 {
            place.branches.swap(0, likeliest);
        }
        noted
    }
}

impl Group<'_> {
    /// Notes how the values of the records in `set` are written that end with `end`; returns those whose
    /// numbers are numbers.
    #[inline(always)]
    fn note(&mut self, end: &End, data: &[u8], set: Set) -> Set {
        match end.numbers.is_empty() && end.words.is_empty() && end.missing.is_empty() {
            true => set,
            false => self.note_odd(end, data, set),
        }
    }

    #[inline(never)]
    fn note_odd(&mut self, end: &End, data: &[u8], mut set: Set) -> Set {
        let mut fractions = [0; NUMBERS_MAX + COLUMNS_MAX];
        for (target, fractions) in end.numbers.iter().zip(&mut fractions) {
            let start = target.values as usize + self.row;
            for i in numbers(set) {
                let Span { start, end } = self.spans[start + i];
                let text = data.get(start as usize..end as usize).unwrap_or_default();
                match Number::at(text, 0) {
                    Some(number) if number.end == text.len() => {
                        *fractions |= Set::from(!number.is_whole) << i;
                    }
                    _ => set &= !(1 << i),
                }
            }
        }
        for (target, fractions) in end.numbers.iter().zip(fractions) {
            self.write(*target, set & !fractions, Written::Whole);
            self.write(*target, set & fractions, Written::Fraction);
        }
        for (target, written) in &end.words {
            self.write(*target, set, *written);
        }
        for target in &end.missing {
            self.write(*target, set, Written::Missing);
        }
        set
    }

    fn write(&mut self, target: Target, set: Set, written: Written) {
        if target.bit != 0 && set != 0 {
            let start = target.values as usize + self.row;
            numbers(set).for_each(|i| self.written[start + i] = written);
            *self.odd |= target.bit;
        }
    }
}
