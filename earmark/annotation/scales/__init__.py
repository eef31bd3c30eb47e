"""Analysis of nominal, ordinal and interval ratings, without a decision between present and absent."""
