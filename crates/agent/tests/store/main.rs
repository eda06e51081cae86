//! The state on disk against what disks do: power that goes at any step, disks that are full, and files that are not
//! what was written.

mod damage;
mod operation;
mod power_loss;
mod signed;
mod simulated;
