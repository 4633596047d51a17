"""Where the answers of an interval go. Each destination replaces exactly that interval's rows, all or none of them."""
