//! What every store must do: the definition of the port, run on each adapter.
