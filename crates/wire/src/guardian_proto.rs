//! What the guardian and its node say to each other over their socket pair.
