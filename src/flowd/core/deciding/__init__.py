"""What follows when something happens to a run, a room for each kind of happening; `core/decide` is the door."""
