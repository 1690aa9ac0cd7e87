"""Role play and social situations, by choice among replies."""
