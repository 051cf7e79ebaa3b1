//! Seeded generators of the four streams that windrow's queries, demo and benches use.
