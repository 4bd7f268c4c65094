"""The async shell around the core: it carries stimuli in and effects out, and decides nothing."""
