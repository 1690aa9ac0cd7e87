"""The suites that come with the toolkit; `wrpo.recipe.suite` has their schema."""
