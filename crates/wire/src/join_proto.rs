//! What a node that wants to join and the node that holds the CA say to each other (kinds 300 to 399).
