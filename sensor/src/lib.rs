//! The Treeline sensor.
