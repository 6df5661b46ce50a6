"""HTTP interface: routes, authentication, validation and the formats of answers. The use cases are in `services`."""
