"""What every kind of registry shares: HTTP with limits, authentication, paging rules and error words."""
