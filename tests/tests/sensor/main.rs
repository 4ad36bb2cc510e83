//! The real sensor on this machine, in attach mode `fallback`: every effect is produced by doing the thing, under
//! throwaway directories, and compared with what the log says.
#![forbid(unsafe_code)]

mod answers;
mod approvals;
mod bad_input;
mod baseline;
mod daemon;
mod decisions;
mod denies;
mod descendants;
mod detach;
mod doctor;
mod events;
mod files_of_policy;
mod hashes;
mod learn;
mod lineage;
mod loss;
mod network;
mod policies;
mod replay;
mod sessions;
mod several_policies;
mod signed_policies;
mod terminal;
mod tools;
