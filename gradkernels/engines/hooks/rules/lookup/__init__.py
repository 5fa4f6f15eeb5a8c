"""Rules for tables of vectors: a row of the table has a gradient only where a sample names its word.

- `embedding`: words `(n, t)` and a gradient for each of them. Gradients of a word that a sample names several times are
  added; norms and sums are taken over the pairs (sample, word) that occur (`sample_words`), inner products over words
  that two samples name (`word_products`), never over the whole table.
- `embedding_bag`: sums and means of the vectors of a bag of words, as a table with factors; the largest entries of a
  bag by the word that had each.

The words come from the forward pass, as integers with the samples first; the gradient of the output is spread over
them, by factors where there are some, and padding gets zero. Options by which no sample has a gradient of its own
(`max_norm`, `scale_grad_by_freq`) are refused.
"""
