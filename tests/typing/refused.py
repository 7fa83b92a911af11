"""What a type checker refuses: a comment that would not be needed is an error itself."""

import jaxmeta as jm

print(jm.nonsense)  # pyright: ignore[reportAttributeAccessIssue]
print(jm.hierarchy.nonsense)  # pyright: ignore[reportAttributeAccessIssue]
jm.maml(5)  # pyright: ignore[reportArgumentType]
jm.fit(5)  # pyright: ignore[reportCallIssue]
